"""Read and check files of claims: the built-in one and the user's.

The Snakefile imports this module, so it imports nothing heavy.
"""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_figures.claims.claim import Claim, ClaimsFile, FigureClaim, PublishedFigure
from llm_figures.claims.definitions import STATISTICS, as_tuple
from llm_figures.claims.figures import ATTENTION_FIGURES
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.text_files import (
    describe_yaml_error,
    read_project_yaml,
    read_user_yaml,
)

# Keys by which a claim selects its numbers, by kind of figure, and those of minus and versus.
_MAP_KEYS = ("panels", "minus", "versus", "across", "along")
_TABLE_KEYS = ("cells", "minus", "versus", "each")
_MAP_PARTNER = ("input", "component", "epsilon")
_TABLE_PARTNER = ("columns", "layers", "rows", "control")


def read_claims(
    built_in: Path, files: Sequence[str], sources: Sequence[str] = ("*",)
) -> list[FigureClaim]:
    """The claims of the built-in file and the user's, in their order, one per figure × claim.

    sources: patterns of the sources whose built-in claims are kept. An id of one that is left out
        is free for the user's own.

    Raises:
        UserError: one line per problem, naming file and claim.
    """
    claims: list[FigureClaim] = []
    defined_in: dict[str, str] = {}
    problems: list[str] = []
    for file, read in [
        (str(built_in), read_project_yaml),
        *((file, read_user_yaml) for file in files),
    ]:
        content = read_options(ClaimsFile, _read(file, read), file)
        chosen = content.claims
        if file == str(built_in):
            problems += _source_problems(chosen, sources)
            chosen = [claim for claim in chosen if _comes_from(claim, sources)]
        for claim in chosen:
            where = f"{file}: {claim.id}"
            if claim.id in defined_in:
                problems.append(f"{where}: already defined in {defined_in[claim.id]}")
            defined_in[claim.id] = file
            problems += [f"{where}: {problem}" for problem in _problems(claim)]
            claims += [_about_figure(claim, figure, content) for figure in claim.figures]
    if problems:
        raise UserError("\n".join(problems))
    return claims


def _source_problems(claims: Sequence[Claim], sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if not any(_comes_from(claim, [source]) for claim in claims):
            known = dict.fromkeys(claim.source.partition(",")[0] for claim in claims)
            yield (
                f"config: claims.built_in: {source!r} matches no source of config/claims.yaml; * "
                f"stands for anything after {', '.join(known)}"
            )


def _comes_from(claim: Claim, sources: Sequence[str]) -> bool:
    """Whether the claim's source, or one of several, matches a pattern."""
    own = [claim.source, *claim.source.split("; ")]
    return any(fnmatch.fnmatchcase(part, source) for part in own for source in sources)


def _about_figure(claim: Claim, figure: str, content: ClaimsFile) -> FigureClaim:
    published = getattr(content.published, figure)
    return FigureClaim.model_construct(
        **dict(claim) | {"figures": (figure,)},
        published=PublishedFigure(**published.plain() if published else {}),
    )


def find_guarded(claims: Sequence[FigureClaim], patterns: Sequence[str]) -> list[str]:
    """Names (figure/id) of the claims that `claims.fail_on` guards.

    patterns: an id, or figure/id, where * and ? stand for any characters.

    Raises:
        UserError: a pattern that matches no claim.
    """
    guarded: list[str] = []
    for pattern in patterns:
        matching = [
            claim.name
            for claim in claims
            if any(fnmatch.fnmatchcase(name, pattern) for name in (claim.name, claim.id))
        ]
        if not matching:
            raise UserError(
                f"config: claims.fail_on: {pattern!r} matches no claim that is checked; give an id "
                "of config/claims.yaml that claims.built_in keeps, or figure/id; * stands for any "
                "characters"
            )
        guarded += [name for name in matching if name not in guarded]
    return guarded


def _read(file: str, read: Callable[[Path], Any]) -> Any:
    try:
        content = read(Path(file))
        if _holds_itself(content):
            raise UserError(f"{file}: an alias (*name) refers to a value that contains it")
        return content
    except OSError as error:
        raise UserError(f"config: claims.files: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text in UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: {describe_yaml_error(error)}") from None
    except ValueError as error:  # no such day, or a number of thousands of digits
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file}: a date or number cannot be read ({reason}); quote it") from None
    except RecursionError:
        raise UserError(f"{file}: nested too deeply") from None


def _holds_itself(value: Any, around: tuple[int, ...] = ()) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return id(value) in around or any(_holds_itself(part, (*around, id(value))) for part in parts)


def _problems(claim: Claim) -> Iterator[str]:
    """Problems that types cannot express: keys that do not fit the figures or the statistic."""
    sides = {figure in ATTENTION_FIGURES for figure in claim.figures}
    if len(sides) > 1:
        yield "figures: attention figures and tables do not go together in one claim"
        return
    attention, figure = sides.pop(), claim.figures[0]
    name, statistic = claim.statistic, STATISTICS.get(claim.statistic)
    fitting = [
        key for key, (kind, _, _) in STATISTICS.items() if kind.startswith("map") == attention
    ]
    if statistic is None or name not in fitting:
        yield f"statistic: {name!r}; for this figure: {', '.join(sorted(fitting))}"
        return
    kind, options, _ = statistic
    given = {key for key in (*_MAP_KEYS, *_TABLE_KEYS) if getattr(claim, key) is not None}
    for key in (*_MAP_KEYS, *_TABLE_KEYS):
        if key in given and key not in (_MAP_KEYS if attention else _TABLE_KEYS):
            yield f"{key}: not for {figure}"
    fields = _MAP_PARTNER if attention else _TABLE_PARTNER
    for key in ("minus", "versus"):
        partners = as_tuple(getattr(claim, key))
        for field in dict.fromkeys(field for partner in partners for field in partner.plain()):
            if field not in fields:
                yield f"{key}.{field}: not for {figure}; allowed: {', '.join(fields)}"
    names = list(map(str, claim.options))
    if sorted(names) != sorted(options):
        needed = ", ".join(options) or "no options"
        yield f"options: {name} takes {needed}, not {', '.join(names) or 'none'}"
    pair = kind in ("maps", "tables")
    others = [key for key in ("versus", "across") if key in given]
    if pair and len(others) != 1:
        keys = "versus or across" if attention else "versus"
        yield f"statistic: {name} compares two; name the other with {keys}"
    if not pair and others:
        yield f"{others[0]}: {name} takes one, not two; minus gives a difference"
    if pair and "minus" in given:
        yield f"minus: {name} compares two already; use versus"
    if pair and "along" in given:
        yield f"along: {name} compares two; a trend is one of single panels"
    two = len(claim.thresholds) == 2
    if two != (claim.comparison == "within"):
        yield "threshold: two numbers for within, one for any other comparison"
    elif two and claim.thresholds[0] > claim.thresholds[1]:
        yield "threshold: the first must not be above the second"
