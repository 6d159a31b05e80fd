"""Claims: what was published about a figure, each with a statistic, a comparison and a threshold.

Read while the Snakefile is read, so nothing heavy is imported: the statistics themselves are
`claim_statistics`, of which this module knows the names and options.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.figure_names import ATTENTION_FIGURES
from llm_figures.core.numbers import as_given
from llm_figures.core.text_files import own_yaml, users_yaml

REPRODUCED, NOT_REPRODUCED, NOT_APPLICABLE = "reproduced", "not reproduced", "not applicable"
# Beside the word: colour alone tells nothing to many readers and on paper.
SYMBOLS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", NOT_APPLICABLE: "–"}
COMPARISONS = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "within": "within"}

# name: (of what, its options, what it is). Kinds: "map" is one attention map, "maps" a pair of
# them; "table" is a region of a layer × column table, "tables" a pair of them.
STATISTICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "first_cell": ("map", (), "weight of the first token on itself"),
    "sink_strength": ("map", (), "F: mean weight on the first token over the later rows"),
    "sink_lead": ("map", (), "F minus the mean weight of the strongest other column"),
    "first_column_trend": ("map", (), "Spearman correlation of the first column with the row"),
    "first_column_spread": ("map", (), "standard deviation of the first column's later rows"),
    "first_column_excess": ("map", (), "F minus what the uniform causal map has there"),
    "column_trend": ("map", (), "Spearman correlation of a column's mean weight with its position"),
    "diagonal": ("map", (), "mean weight of later tokens on themselves"),
    "diagonal_trend": ("map", (), "Spearman correlation of the diagonal with the row"),
    "diagonal_excess": ("map", (), "diagonal minus what the uniform causal map has there"),
    "diagonal_contrast": ("map", (), "diagonal minus the other cells right of the first column"),
    "distance_to_uniform": ("map", (), "D: mean |A − U| over the lower triangle"),
    "median": ("map", (), "median weight of all cells"),
    "mean": ("map", (), "mean weight of all cells"),
    "visible_mean": ("map", (), "mean weight of the lower triangle"),
    "entropy": ("map", (), "mean entropy of the rows, in nats"),
    "lower_right": ("map", (), "mean weight of the lower right quarter"),
    "above_diagonal": ("map", (), "largest weight above the diagonal"),
    "median_elsewhere": ("map", (), "median weight off the first column, lower triangle"),
    "largest_elsewhere": ("map", (), "largest weight off the first column"),
    "share_elsewhere": (
        "map", ("above",), "share of the lower triangle off the first column with a weight above"
    ),
    "corner_share": (
        "map", ("warm",), "of the cells from weight `warm` on, the share in the upper left quarter"
    ),
    "tokens": ("map", (), "number of tokens"),
    "squareness": ("map", (), "rows over columns"),
    "correlation": ("maps", (), "Pearson correlation over the lower triangle"),
    "largest_difference": ("maps", (), "largest difference between two cells"),
    "average": ("table", (), "mean of the cells"),
    "largest": ("table", (), "largest cell"),
    "smallest": ("table", (), "smallest cell"),
    "range": ("table", (), "largest minus smallest cell"),
    "share_at_least": ("table", ("level",), "share of cells of at least the level"),
    "share_at_most": ("table", ("level",), "share of cells of at most the level"),
    "share_within": ("table", ("low", "high"), "share of cells from low to high, both included"),
    "distance_from": ("table", ("level",), "distance of the cells' mean from the level"),
    "peak_layer": ("table", (), "layer of the highest mean over columns"),
    "steepest_rise": ("table", (), "layer of the largest rise from the layer before"),
    "slope": ("table", (), "rise over the whole depth of the line fitted to the layers' means"),
    "layer_trend": ("table", (), "Spearman correlation of the layers' means with the layer"),
    "valley": ("table", (), "depth of the deepest valley between two higher layers"),
    "average_difference": ("tables", (), "mean absolute difference, cell by cell"),
    "interval_gap": (
        "tables", (), "lower end of the best cell's interval minus the other best cell's upper end"
    ),
}  # fmt: skip
# What a claim may say about which numbers it is on, by kind of figure.
_MAP_KEYS = ("panels", "minus", "versus", "across", "along")
_TABLE_KEYS = ("cells", "minus", "versus", "each")
_MAP_PARTNER = ("input", "component", "epsilon")
_TABLE_PARTNER = ("columns", "layers", "control")


def read_claims(built_in: Path, files: Sequence[str], schema: dict, check) -> list[dict]:
    """All claims of the built-in file and the user's, in their order, one per figure × claim.

    check: (values, schema, where) -> values with defaults (see `config.validated`).
    Each claim gets `figure` (one), and `published`, what the file says of the figure it is about.

    Raises:
        UserError: one line per problem, naming file and claim.
    """
    claims: list[dict] = []
    seen: dict[str, str] = {}
    problems: list[str] = []
    for file, read in [(str(built_in), own_yaml), *((file, users_yaml) for file in files)]:
        content = check(_read(file, read), schema, file)
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


def guarded(claims: Sequence[Mapping], patterns: Sequence[str]) -> list[str]:
    """ "figure/claim" of the claims that `claims.fail_on` names: an id, or figure/id, with * and ?.

    Raises:
        UserError: a pattern that names no claim.
    """
    found: list[str] = []
    for pattern in patterns:
        named = [
            name
            for claim in claims
            for name in [f"{claim['figure']}/{claim['id']}"]
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(claim["id"], pattern)
        ]
        if not named:
            raise UserError(
                f"config: claims.fail_on: {pattern!r} names no claim; give an id of "
                "config/claims.yaml, or figure/id; * stands for anything"
            )
        found += [name for name in named if name not in found]
    return found


def threshold_text(comparison: str, threshold: float, high: float | None) -> str:
    """≥ 0.9, or 13 to 17: as the claim says it, not rounded."""
    if comparison == "within":
        return f"{as_given(threshold)} to {as_given(high)}"
    return f"{COMPARISONS[comparison]} {as_given(threshold)}"


def holds(value: float, comparison: str, threshold: Sequence[float]) -> bool:
    """Whether the comparison is true of the value; `within` includes both ends."""
    match comparison:
        case ">=":
            return value >= threshold[0]
        case "<=":
            return value <= threshold[0]
        case ">":
            return value > threshold[0]
        case "<":
            return value < threshold[0]
    return threshold[0] <= value <= threshold[1]


def worst(values: Sequence[float], comparison: str, threshold: Sequence[float]) -> float:
    """The value that is closest to failing, or fails the most: a claim is about all of them."""
    match comparison:
        case ">=" | ">":
            return min(values)
        case "<=" | "<":
            return max(values)
    return max(values, key=lambda value: abs(value - sum(threshold) / 2))


def thresholds(claim: Mapping) -> tuple[float, ...]:
    """The threshold as a tuple: one number, or the two ends of `within`."""
    threshold = claim["threshold"]
    return tuple(threshold) if isinstance(threshold, list) else (threshold,)


def listed(claim: Mapping, key: str) -> list:
    """What a key of a claim, or of a part of it, names: one or several; nothing without it."""
    value = claim.get(key, [])
    return list(value) if isinstance(value, list) else [value]


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


def _problems(claim: Mapping):
    """What the schema cannot say: how a claim's keys fit its figures and its statistic."""
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
