"""The caption of the probe's heatmap, and the numbers that it states."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from llm_figures.core.stated_numbers import StatedNumbers, plain_value
from llm_figures.probe.best_cell import (
    BRIER,
    CALIBRATION_ERROR,
    DETAILS,
    OFF_OPTION,
    OTHER_WRONG,
    SLOPE,
    WITHIN_GROUP,
    HighestCell,
    NestedCell,
    find_highest_cell,
    find_nested_cell,
    list_candidates,
)
from llm_figures.probe.cell_text import (
    CELL,
    describe_highest_cell,
    describe_nested,
    state_cell,
    state_nested,
)
from llm_figures.probe.controls import (
    CONTROLS,
    EXPLANATIONS,
    FITTED,
    LABELS,
    NAMES,
    format_share,
    is_output,
    name_control,
    name_of,
)
from llm_figures.probe.group_text import describe_groups, select_chosen, state_groups
from llm_figures.probe.options import Highlight, ProbeAuc
from llm_figures.probe.protocol import (
    BY_GROUP,
    CROSS_VALIDATIONS,
    SHUFFLED,
    SMALLEST_GROUP,
    VARIANT,
    Protocol,
)
from llm_figures.probe.protocol_text import CONSTANTS as CONSTANTS_OF_PROTOCOL
from llm_figures.probe.protocol_text import PROBES, SITES, describe_method, state_protocol
from llm_figures.probe.token_positions import NAMED_TOKENS


class DrawnProbeAuc(ProbeAuc):
    """Options of the figure, with the protocol of its scores."""

    protocol: Protocol


# What captions of the probe say in figures without stating a number of the run.
CONSTANTS = {
    **CONSTANTS_OF_PROTOCOL,
    "0 is the embeddings": "layers are counted from 0",
    "the group alone has 0.5": "the AUC of a score that is the same for all",
    f"fewer than {SMALLEST_GROUP} training": "the smallest group in which labels are shuffled",
    **dict.fromkeys(NAMED_TOKENS, "the name of a token"),
}
GAINS = ("gain", "gain_low", "gain_high")
# Controls that a caption counts the cells above.
COUNTED = {
    "embeddings": "the embeddings",
    "shuffled_within_group": "labels shuffled within group",
}


def find_highlighted_layers(layers: Sequence[int | str], depth: int) -> tuple[int, int]:
    """First and last layer of the rectangle; "12.5%" is a share of the model's `depth` layers."""
    first, last = (
        round(float(layer.removesuffix("%")) / 100 * depth) if isinstance(layer, str) else layer
        for layer in layers
    )
    return min(first, last), max(first, last)


def state_numbers(scores: pd.DataFrame, options: DrawnProbeAuc) -> StatedNumbers:
    """The numbers of the caption, and for each token those of its layers.

    nested: of the cell chosen in every split on the training answers, with every control there.
    highest: of the cell with the highest score, with every control there. gain is probe − control.
    """
    numbers = state_protocol(options.protocol)
    numbers.take_option("shuffles", scores.attrs.get("shuffles"), "d", "probe.shuffles")
    chosen = scores[(scores["metric"] == options.metric) & scores["token"].isin(options.tokens)]
    shown = chosen[chosen["control"] == "none"]
    for end, limit in zip(("low", "high"), options.limits, strict=True):
        numbers.take_option(f"colour_{end}", limit, "g", "figures.probe_auc.limits")
    _state_rectangle(numbers, shown, options)
    of_probe = {**select_chosen(chosen), "control": "none"}
    numbers.add("answers", shown["n"].max(), ",", "largest n", row=of_probe)
    highest = find_highest_cell(scores, options.metric, options.tokens)
    scored = "number of rows with a value of mean"
    of_candidates = {**of_probe, "token": list_candidates(shown)}
    numbers.add("scored_cells", highest and highest.scored, "d", scored, row=of_candidates)
    state_cell(numbers, "highest", highest)
    nested = find_nested_cell(scores, options.metric)
    state_nested(numbers, "nested", nested, highest)
    for name, cell in (("nested", nested), ("highest", highest)):
        variants = [one for one in (cell.beside.index if cell else ()) if one.startswith(VARIANT)]
        for control in (*NAMES, *variants):
            row = _row_of(cell, control)
            if row is None and control not in CONTROLS:
                continue
            numbers.take(f"{name}_{control}", row, "mean", ".3f", CELL)
            for column in (*GAINS, *(["spread"] if control in SHUFFLED else [])):
                numbers.take(f"{name}_{control}_{column}", row, column, ".3f", CELL)
            if row is not None and control in cell.raw:
                origin = {key: plain_value(row[key]) for key in CELL}
                raw = f"mean of the row with metric {row['metric'].replace('auc', 'raw_auc')}"
                numbers.add(f"{name}_{control}_raw", cell.raw[control], ".3f", raw, row=origin)
        share = _row_of(cell, "shuffled_within_group")
        numbers.take(f"{name}_shuffled_share", share, "within_group", format_share, CELL)
    for detail in DETAILS:
        row = None
        if nested and options.metric == "auc" and detail in nested.details.index:
            row = {**nested.details.loc[detail], "metric": detail}
        numbers.take(detail, row, "mean", ".3f", CELL)
        if detail in (WITHIN_GROUP, OTHER_WRONG, OFF_OPTION):
            for end in ("low", "high"):
                numbers.take(f"{detail}_{end}", row, f"ci_{end}", ".3f", CELL)
    for control in COUNTED:
        rows = _select_gains(chosen, control)
        where = " in layers above 0" if control == "embeddings" else ""
        above = f"number of rows{where} with gain_low above 0"
        compared = f"number of rows{where} with a value of gain"
        selected = {**select_chosen(chosen), "control": control}
        known = len(rows) > 0
        count = (rows["gain_low"] > 0).sum() if known else None
        numbers.add(f"cells_above_{control}", count, "d", above, row=selected)
        size = len(rows) if known else None
        numbers.add(f"cells_with_{control}", size, "d", compared, row=selected)
    fits = chosen.loc[chosen["control"].isin(FITTED), "unconverged"].sum()
    fitted = {**select_chosen(chosen), "control": list(FITTED)}
    numbers.add("unconverged_fits", fits, ",", "sum of unconverged", row=fitted)
    numbers.update(state_groups(chosen))
    for token in options.tokens:
        rows = shown[shown["token"] == token]
        first = rows.iloc[0] if len(rows) else None
        numbers.take(f"{token}_answers", first, "n", ",", ("token", "metric", "control"))
        numbers.take(f"{token}_folds", first, "folds", "d", ("token", "metric", "control"))
        highest = find_highest_cell(scores, options.metric, (token,))
        state_cell(numbers, f"{token}_highest", highest)
        nested = find_nested_cell(scores, options.metric, token)
        state_nested(numbers, f"{token}_nested", nested, highest)
    return numbers


def _state_rectangle(numbers: StatedNumbers, shown: pd.DataFrame, options: DrawnProbeAuc) -> None:
    """Add the first and the last layer inside the rectangle, and the tokens above it."""
    ends, tokens = (None, None), None
    highlight = options.highlight
    if highlight and len(shown) and (columns := highlight.find_columns(options.tokens)):
        ends = find_highlighted_layers(highlight.layers, int(shown["layer"].max()))
        runs = [[options.tokens[column] for column in run] for run in columns]
        tokens = ", ".join(first if first == last else f"{first} to {last}" for first, last in runs)
    source = "config: figures.probe_auc.highlight"
    for name, layer in zip(("first", "last"), ends, strict=True):
        formula = f"the {name} layer inside, a share of the largest layer if it is given as one"
        numbers.add(f"rectangle_{name}", layer, "d", formula, source=source)
    numbers.add("rectangle_tokens", tokens, str, "the tokens inside", source=source)


def _row_of(cell: HighestCell | NestedCell | None, control: str) -> dict | None:
    """The row of a control in a cell."""
    if cell is None or control not in cell.beside.index:
        return None
    return {**cell.beside.loc[control], "control": control}


def _select_gains(chosen: pd.DataFrame, control: str) -> pd.DataFrame:
    """The rows of a control that the probe is compared with; layer 0 is the embeddings itself."""
    rows = chosen[(chosen["control"] == control) & chosen["gain"].notna()]
    return rows[rows["layer"] > 0] if control == "embeddings" else rows


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnProbeAuc,
    numbers: StatedNumbers | None = None,
) -> str:
    """The probe, its chosen and its highest cell, the controls, and what is missing.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    protocol = options.protocol
    chosen = scores[(scores["metric"] == options.metric) & scores["token"].isin(options.tokens)]
    shown = chosen[chosen["control"] == "none"]
    sentences = [
        f"{LABELS[options.metric]} of a {PROBES[protocol.kind]} on {SITES[protocol.site]} of "
        f"{model} that detects a wrong answer, by layer (0 is the embeddings) and token.",
        describe_method(protocol, numbers),
        _describe_counts(shown, numbers),
    ]
    if highest := find_highest_cell(scores, options.metric, options.tokens):
        nested = find_nested_cell(scores, options.metric)
        sentences += _describe_controls(chosen, highest, nested, options, numbers)
    if numbers["unconverged_fits"].value:
        sentences.append(f"{numbers['unconverged_fits']} fits did not converge.")
    sentences.append(
        f"Colours span {numbers['colour_low']} to {numbers['colour_high']}; lower values take the "
        f"lightest.{_describe_marks(numbers, options)}"
    )
    return " ".join(sentence for sentence in sentences if sentence) + "\n"


def _describe_marks(numbers: StatedNumbers, options: DrawnProbeAuc) -> str:
    """What the dot and the rectangle are."""
    marked = options.mark_best and numbers["highest_layer"].value is not None
    dot = " The dot marks the highest cell." if marked else ""
    if numbers["rectangle_tokens"].value is None:
        return dot
    default = options.highlight == Highlight()
    why = ", which is where the published figure has it" if default else ""
    return (
        f"{dot} The rectangle frames layers {numbers['rectangle_first']} to "
        f"{numbers['rectangle_last']} at {numbers['rectangle_tokens']}{why}."
    )


def _describe_counts(shown: pd.DataFrame, numbers: StatedNumbers) -> str:
    """How many answers each cell has, with the tokens of fewer answers and of no score."""
    counts = shown.drop_duplicates("token").set_index("token")["n"]
    most = counts.max()
    fewer = ", ".join(
        f"{token}: {numbers[f'{token}_answers']}" for token, count in counts.items() if count < most
    )
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    beside = f" ({fewer})" if fewer else ""
    counted = f"Each cell has {numbers['answers']} answers{beside}.{missing}"
    return counted + _describe_weak(shown, numbers)


def _describe_weak(shown: pd.DataFrame, numbers: StatedNumbers) -> str:
    """The tokens that rest on fewer folds than others, and those that are not compared."""
    scored = shown[shown["mean"].notna()]
    if scored.empty:
        return ""
    text = ""
    folds = scored.groupby("token", sort=False)["folds"].max()
    if few := [token for token, count in folds.items() if count < folds.max()]:
        named = ", ".join(f"{token}: {numbers[f'{token}_folds']}" for token in few)
        text += (
            f" In other folds a label is missing; scored folds are fewer at some tokens ({named})."
        )
    candidates = list_candidates(shown)
    if left := [token for token in folds.index if token not in candidates]:
        text += (
            f" Not compared with others, as fewer than half as many answers have them: "
            f"{', '.join(left)}."
        )
    return text


def _describe_controls(
    chosen: pd.DataFrame,
    highest: HighestCell,
    nested: NestedCell | None,
    options: DrawnProbeAuc,
    numbers: StatedNumbers,
) -> list[str]:
    """The chosen cell with its controls, the highest, and how many cells no control explains."""
    protocol, metric = options.protocol, options.metric
    cells = numbers["scored_cells"]
    name, beside = ("nested", nested.beside) if nested else ("highest", highest.beside)
    share = numbers[f"{name}_shuffled_share"]
    raw = (nested or highest).raw
    controls = []
    for control in CONTROLS:
        if control in beside.index:
            text = name_control(control, beside.loc[control], share)
            text += f" {numbers[f'{name}_{control}']}"
            if control in SHUFFLED and numbers[f"{name}_{control}_spread"].value is not None:
                text += f" ± {numbers[f'{name}_{control}_spread']}"
            if raw.get(control, 1.0) < 0.5:
                text += (
                    f" (fitted; {numbers[f'{name}_{control}_raw']} as it is, for it is higher for "
                    "wrong answers)"
                )
            controls.append(text)
    if nested:
        higher = numbers["nested_selection"]
        sentences = [
            f"{describe_nested(protocol, numbers, metric)}.",
            f"The highest of {cells} cells, {describe_highest_cell(numbers)}, is {higher} above "
            "that; it was found by the scores themselves.",
            f"Controls where it was chosen: {', '.join(controls)}.",
        ]
    else:
        sentences = [
            f"The highest of {cells} cells: {describe_highest_cell(numbers)}; the interval is that "
            "of a single cell.",
            f"Controls there: {', '.join(controls)}.",
        ]
    sentences.append(_describe_shuffles(beside.index, name, protocol, numbers))
    sentences.append(_describe_explanations(beside, protocol, "best" if nested else "highest"))
    outputs = beside[beside.index.map(is_output)]
    if len(outputs):
        strongest = outputs["mean"].idxmax()
        gain, low, high = (numbers[f"{name}_{strongest}_{column}"] for column in GAINS)
        sentences.append(
            "Probe − control for the strongest baseline without hidden states, "
            f"{name_of(strongest)}: {gain} [{low}, {high}]."
        )
    sentences += _describe_details(numbers)
    for control, name in COUNTED.items():
        rows = _select_gains(chosen, control)
        if len(rows):
            above = rows["gain_low"] > 0
            never = [
                token
                for token, of_token in above.groupby(rows["token"], sort=False)
                if not of_token.any()
            ]
            count, of = numbers[f"cells_above_{control}"], numbers[f"cells_with_{control}"]
            sentences.append(
                f"By the same criterion {count} of {of} cells are above {name}"
                + (f", none at {', '.join(never)}." if never else ".")
            )
    return [*sentences, describe_groups(chosen, protocol, numbers)]


def _describe_shuffles(
    controls: Iterable[str], name: str, protocol: Protocol, numbers: StatedNumbers
) -> str:
    """How often labels are shuffled. name: of the cell that these are the controls of."""
    shuffled = [control for control in SHUFFLED if control in controls]
    if not shuffled:
        return ""
    fold = " in each fold" if protocol.split in CROSS_VALIDATIONS else ""
    if any(numbers[f"{name}_{control}_spread"].value is not None for control in shuffled):
        return (
            f"There labels are shuffled {numbers['shuffles']} times{fold} (±: standard deviation "
            "from one time to the next), in all other cells once."
        )
    return f"Labels are shuffled once{fold}, so these controls scatter."


def _describe_details(numbers: StatedNumbers) -> Iterator[str]:
    """What the chosen cells know within groups, and whether their logits are probabilities."""
    if numbers[WITHIN_GROUP].value is not None:
        low, high = (numbers[f"{WITHIN_GROUP}_{end}"] for end in ("low", "high"))
        yield (
            "Over pairs of a wrong and a right answer of the same group the chosen cells have "
            f"{numbers[WITHIN_GROUP]} [{low}, {high}], where the group alone has 0.5."
        )
    classes = {OFF_OPTION: "that name no option", OTHER_WRONG: "all others"}
    known = [name for name in classes if numbers[name].value is not None]
    if known:
        named = " and ".join(
            f"{numbers[name]} [{numbers[f'{name}_low']}, {numbers[f'{name}_high']}] for "
            f"{'those ' if name == OFF_OPTION else ''}{classes[name]}"
            for name in known
        )
        yield f"Of wrong answers against right ones the AUC is {named}."
    if numbers[BRIER].value is not None:
        slope = "none" if numbers[SLOPE].value is None else numbers[SLOPE]
        yield (
            f"Their logits as probabilities: calibration slope {slope}, expected calibration error "
            f"{numbers[CALIBRATION_ERROR]}, Brier score {numbers[BRIER]}."
        )


def _describe_explanations(beside: pd.DataFrame, protocol: Protocol, which: str) -> str:
    """Which controls explain a cell. beside: its rows by control. which: cell it is."""
    explaining = [
        control
        for control in EXPLANATIONS
        if control in beside.index and not beside.loc[control, "gain_low"] > 0
    ]
    if protocol.split in BY_GROUP and "group_only" in explaining:
        return (
            f"In groups that it was not trained on, the probe of the {which} cell is no better "
            "than a constant score (group alone): the interval of probe − control is not above "
            "zero."
        )
    if explaining:
        named = " and by ".join(map(EXPLANATIONS.get, explaining))
        return (
            f"The {which} cell is explained by {named}: the interval of probe − control is not "
            "above zero."
        )
    if {"group_only", "shuffled_within_group"}.isdisjoint(beside.index):
        return (
            f"The token itself, which its embedding gives away, does not explain the {which} cell: "
            "the interval of probe − control is above zero."
        )
    return f"No control explains the {which} cell: the intervals of probe − control are above zero."
