"""Which choice reproduces it? The claims of the attention figures over what was left open.

The published figures do not say over which axis the mean was taken, in how many layers the change
was made, whether before or after rotary embedding, which layer is shown, nor what became of the
heads. Every combination is evaluated on the same claims.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import find_strongest_layer
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import (
    Intervened,
    States,
    compute_panel_maps,
    list_panels,
    resolve_auto,
)
from llm_figures.claims.definitions import (
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    holds,
    thresholds,
)
from llm_figures.claims.evaluation import claim_value
from llm_figures.claims.panels import Panel, measure_maps
from llm_figures.claims.statistics import NotApplicableError

# Whose claims, and whose other options, an operation is evaluated with.
FIGURES = {"mean": "mean_qkv", "scale": "scale_qkv"}
KEYS = ["operation", "over", "stage", "scope", "layer_choice", "layer", "head_choice", "head"]
WORDS = {
    "features": "over features",
    "tokens": "over tokens",
    "before_rotary": "before rotary",
    "after_rotary": "after rotary",
    "layer": "in the shown layer",
    "model": "in every layer",
}


def combinations(choices: Mapping, figures: Mapping) -> Iterator[AttentionScoring]:
    """Options of an attention figure, one for every combination of the choices.

    choices: over, stage, scope, layer (a number, auto, or a share of the depth such as 25%), head,
        each a list. figures: the config's, for components, epsilon and input. A scale has no axis
        to be taken over; its `over` is None.
    """
    for operation, figure in FIGURES.items():
        common = {key: figures[figure][key] for key in ("components", "epsilon", "input")}
        axes = choices["over"] if operation == "mean" else [None]
        open_ = (axes, choices["stage"], choices["scope"], choices["layer"], choices["head"])
        for over, stage, scope, layer, head in itertools.product(*open_):
            yield AttentionScoring().changed(
                **{**common, "operation": operation, "over": over, "stage": stage},
                **{"scope": scope, "layer": layer, "head": head},
            )


def chosen_layer(layer: int | str, clean: Sequence[States]) -> int:
    """A layer's number, from a number, auto (the strongest sink) or a share of the depth."""
    if layer == "auto":
        return find_strongest_layer(clean)
    if isinstance(layer, int):
        return layer
    last = max(states.layer for states in clean)
    return round(float(layer.removesuffix("%")) / 100 * last)


def passes(
    choices: Mapping, figures: Mapping, clean: Sequence[States]
) -> tuple[list[int], list[tuple[int, Intervention]]]:
    """(layers to keep, forward passes owed): what a change in every layer needs of the model.

    A pass is (input, intervention). None is owed for a change before rotary embedding where a
    layer's rotation is not known: that combination is not applicable.
    """
    inputs = len({states.input for states in clean})
    layers = sorted({chosen_layer(layer, clean) for layer in choices["layer"]})
    known = all(states.rotated for states in clean)
    owed = {
        (index, intervention): None
        for options in combinations(choices, figures)
        if options.scope == "model"
        for _, _, index, intervention in list_panels(options, inputs)
        if known or not intervention.unrotates
    }
    return layers, list(owed)


def choice_rows(
    claims: Sequence[Mapping],
    choices: Mapping,
    figures: Mapping,
    clean: Sequence[States],
    intervened: Intervened | None,
) -> pd.DataFrame:
    """One row per combination × claim: `KEYS`, claim, statement, value, verdict, reason.

    claims: those of mean_qkv and scale_qkv.
    """
    rows: list[dict] = []
    for options in combinations(choices, figures):
        layer = chosen_layer(options.layer, clean)
        resolved = resolve_auto(options.changed(layer=layer), clean)
        key = {
            **{name: getattr(options, name) for name in ("operation", "over", "stage", "scope")},
            "layer_choice": str(options.layer),
            "layer": layer,
            "head_choice": str(options.head),
            "head": str(resolved.head),
        }
        maps = _maps(resolved, clean, intervened)
        figure = FIGURES[options.operation]
        rows += [key | _verdict(c, maps) for c in claims if c["figure"] == figure]
    columns = [*KEYS, "claim", "statement", "value", "verdict", "reason"]
    text = dict.fromkeys([name for name in columns if name not in ("layer", "value")], "string")
    return pd.DataFrame(rows, columns=columns).astype(text)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per combination: `KEYS`, reproduced, applicable; the most reproduced first."""
    counted = rows.assign(
        reproduced=rows["verdict"] == REPRODUCED, applicable=rows["verdict"] != NOT_APPLICABLE
    )
    found = counted.groupby(KEYS, dropna=False, sort=False)[["reproduced", "applicable"]].sum()
    return found.reset_index().sort_values("reproduced", ascending=False, kind="stable")


def made(row: Mapping) -> str:
    """What was changed: over features, before rotary, in every layer."""
    parts = [row["over"], row["stage"], row["scope"]]
    return ", ".join(WORDS[part] for part in parts if not pd.isna(part))


def _maps(
    options: AttentionScoring, clean: Sequence[States], intervened: Intervened | None
) -> dict[Panel, np.ndarray] | None:
    """The combination's maps; None where a rotation that it needs is not known."""
    everywhere = options.scope == "model"
    needed = [states for states in clean if everywhere or states.layer == options.layer]
    unrotates = any(made.unrotates for *_, made in list_panels(options, 1))
    if unrotates and not all(states.rotated for states in needed):
        return None
    after = intervened if everywhere else None
    return {
        Panel(index, made.component, made.operation, made.epsilon): weights
        for _, _, index, made, weights in compute_panel_maps(options, clean, after)
    }


def _verdict(claim: Mapping, maps: Mapping[Panel, np.ndarray] | None) -> dict:
    row = {"claim": claim["id"], "statement": claim["statement"], "value": None, "reason": None}
    try:
        if maps is None:
            raise NotApplicableError("the model has no rotary embedding that can be observed")
        value = claim_value(claim, measure_maps(claim, maps))
    except NotApplicableError as reason:
        return row | {"verdict": NOT_APPLICABLE, "reason": str(reason)}
    true = holds(value, claim["comparison"], thresholds(claim))
    return row | {"value": value, "verdict": REPRODUCED if true else NOT_REPRODUCED}
