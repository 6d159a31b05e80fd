"""Files of claims, the built-in one and the user's; read while the Snakefile is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_figures.claims.definitions import STATISTICS, listed
from llm_figures.claims.figures import ATTENTION_FIGURES
from llm_figures.claims.options import ClaimsFile
from llm_figures.core.errors import UserError
from llm_figures.core.options import read_options
from llm_figures.core.text_files import own_yaml, users_yaml

# What a claim may say about which numbers it is on, by kind of figure.
_MAP_KEYS = ("panels", "minus", "versus", "across", "along")
_TABLE_KEYS = ("cells", "minus", "versus", "each")
_MAP_PARTNER = ("input", "component", "epsilon")
_TABLE_PARTNER = ("columns", "layers", "control")


def read_claims(built_in: Path, files: Sequence[str]) -> list[dict]:
    """All claims of the built-in file and the user's, in their order, one per figure × claim.

    Each claim gets `figure` (one), and `published`, what the file says of the figure it is about.

    Raises:
        UserError: one line per problem, naming file and claim.
    """
    claims: list[dict] = []
    seen: dict[str, str] = {}
    problems: list[str] = []
    for file, read in [(str(built_in), own_yaml), *((file, users_yaml) for file in files)]:
        content = read_options(ClaimsFile, _read(file, read), file).plain()
        for claim in content["claims"]:
            where = f"{file}: {claim['id']}"
            if claim["id"] in seen:
                problems.append(f"{where}: already defined in {seen[claim['id']]}")
            seen[claim["id"]] = file
            problems += [f"{where}: {problem}" for problem in _problems(claim)]
            for figure in claim["figures"]:
                about = content["published"].get(figure, {})
                rest = {key: value for key, value in claim.items() if key != "figures"}
                claims.append({"figure": figure, **rest, "published": about})
    if problems:
        raise UserError("\n".join(problems))
    return claims


def _read(file: str, read: Callable[[Path], Any]) -> Any:
    try:
        content = read(Path(file))
        if _holds_itself(content):
            raise UserError(f"{file}: an alias (*name) stands for what it is part of")
        return content
    except OSError as error:
        raise UserError(f"config: claims.files: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text in UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: {' '.join(str(error).split())[:200]}") from None
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


def _problems(claim: Mapping) -> Iterator[str]:
    """What the types cannot say: how a claim's keys fit its figures and its statistic."""
    sides = {figure in ATTENTION_FIGURES for figure in claim["figures"]}
    if len(sides) > 1:
        yield "figures: attention figures and tables do not go together in one claim"
        return
    attention = sides.pop()
    name, statistic = claim["statistic"], STATISTICS.get(claim["statistic"])
    fitting = [
        key for key, (kind, _, _) in STATISTICS.items() if kind.startswith("map") == attention
    ]
    if statistic is None or name not in fitting:
        yield f"statistic: {name!r}; for this figure: {', '.join(sorted(fitting))}"
        return
    kind, options, _ = statistic
    for key in (*_MAP_KEYS, *_TABLE_KEYS):
        if key in claim and key not in (_MAP_KEYS if attention else _TABLE_KEYS):
            yield f"{key}: not for {claim['figures'][0]}"
    fields = _MAP_PARTNER if attention else _TABLE_PARTNER
    for key in ("minus", "versus"):
        for field in dict.fromkeys(field for partner in listed(claim, key) for field in partner):
            if field not in fields:
                yield f"{key}.{field}: not for {claim['figures'][0]}; allowed: {', '.join(fields)}"
    given = list(map(str, claim["options"]))
    if sorted(given) != sorted(options):
        needed = ", ".join(options) or "no options"
        yield f"options: {name} takes {needed}, not {', '.join(given) or 'none'}"
    pair = kind in ("maps", "tables")
    partners = [key for key in ("versus", "across") if key in claim]
    if pair and len(partners) != 1:
        yield f"statistic: {name} compares two; say with what: versus{' or across' * attention}"
    if not pair and partners:
        yield f"{partners[0]}: {name} is of one, not of two; minus gives a difference"
    if pair and "minus" in claim:
        yield f"minus: {name} compares two already; use versus"
    if pair and "along" in claim:
        yield f"along: {name} compares two; a trend is one of single panels"
    two = isinstance(claim["threshold"], list)
    if two != (claim["comparison"] == "within"):
        yield "threshold: two numbers for within, one for any other comparison"
    elif two and claim["threshold"][0] > claim["threshold"][1]:
        yield "threshold: the first must not be above the second"
