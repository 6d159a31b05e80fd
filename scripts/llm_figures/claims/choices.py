"""Evaluate the claims about the attention figures on every combination of open choices."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import Intervened, States, find_shape, list_panels
from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.combinations import Combination, combine_choices
from llm_figures.claims.definitions import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.evaluation import measure_references, pick_value
from llm_figures.claims.options import ChoicesScoring
from llm_figures.claims.panels import Maps, compute_maps, measure_maps
from llm_figures.claims.reference_maps import draw_reference_maps
from llm_figures.claims.references import (
    Values,
    compute_baseline,
    find_decided,
    judge_references,
)
from llm_figures.claims.statistics import NotApplicableError

# Random maps of every kind of combination.
DRAWS = 40
# Columns that tell one combination from another.
KEYS = ["operation", "over", "stage", "scope", "layer_choice", "layer", "head_choice", "head"]
# Columns that say how many random maps there are, and how many of them satisfy the claim.
COUNTS = {"references": "Int64", "held_references": "Int64"}
WORDS = {
    "features": "over features",
    "tokens": "over tokens",
    "before_rotary": "before rotary",
    "after_rotary": "after rotary",
    "layer": "in the displayed layer",
    "model": "in every layer",
}


def evaluate_choices(
    claims: Sequence[FigureClaim],
    choices: ChoicesScoring,
    figures: Mapping[str, AttentionScoring],
    clean: Sequence[States],
    intervened: Intervened | None,
) -> pd.DataFrame:
    """One row per combination × claim: `KEYS`, claim, statement, value, verdict, reason, decided,
    references, held_references.

    A claim is decided if it is so by construction in every combination to which it applies: what
    some choice alone decides, such as that Query and Key are equal, tells the choices apart.
    Columns attention_layers and model_layers are those of `scores.compute_cells`, in every row.

    claims: those of mean_qkv and scale_qkv. figures: see `combine_choices`. intervened: states of
        the passes with an intervention in every layer, as from `plan_passes`.
    """
    rows: list[dict] = []
    references: dict[tuple, dict[str, Values]] = {}
    layers = {
        "attention_layers": len({states.layer for states in clean}),
        "model_layers": find_shape(clean)["layers"],
    }
    for combination in combine_choices(choices, figures, clean):
        options = combination.options
        key = {
            **{name: getattr(options, name) for name in ("operation", "over", "stage", "scope")},
            "layer_choice": combination.layer,
            "layer": options.layer,
            "head_choice": combination.head,
            "head": str(options.head),
        }
        maps = _compute_maps(combination, clean, intervened)
        own = [claim for claim in claims if claim.figure == combination.figure]
        # neither the layer nor which single head is shown makes a difference to random maps
        alike = (
            *(options.operation, options.over, options.stage, options.scope),
            options.head == "mean",
        )
        if alike not in references:
            references[alike] = _measure_references(combination, own, clean) if maps else {}
        rows += [key | _judge(claim, maps, references[alike]) for claim in own]
    columns = [*KEYS, "claim", "statement", "value", "verdict", "reason", "decided", *COUNTS]
    kept = ("layer", "value", "decided", *COUNTS)
    text = dict.fromkeys([name for name in columns if name not in kept], "string")
    frame = pd.DataFrame(rows, columns=columns).astype(text | COUNTS).assign(**layers)
    applies = frame["verdict"] != NOT_APPLICABLE
    # minimum over the combinations; False where it applies to none
    decided = (
        frame["decided"].astype(bool).where(applies).groupby([frame["operation"], frame["claim"]])
    )
    return frame.assign(decided=decided.transform("min").eq(True))


def count_reproduced(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per combination: `KEYS`, reproduced, applicable, baseline; the most reproduced first.

    Claims that are decided by construction do not count. baseline: how many of the applicable
    claims random maps satisfy on average; NaN where there are no random maps.

    rows: as from `evaluate_choices`.
    """
    could_fail = ~find_decided(rows)
    counted = rows.assign(
        reproduced=(rows["verdict"] == REPRODUCED) & could_fail,
        applicable=(rows["verdict"] != NOT_APPLICABLE) & could_fail,
    )
    combinations = counted.groupby(KEYS, dropna=False, sort=False)
    sums = combinations[["reproduced", "applicable"]].sum()
    baselines = [compute_baseline(part) for _, part in combinations]
    sums["baseline"] = [found.satisfied if found else np.nan for found in baselines]
    return sums.reset_index().sort_values("reproduced", ascending=False, kind="stable")


def describe_layers(rows: pd.DataFrame, stated: Mapping | None = None) -> str:
    """Which layers of a hybrid model the choices concern, as a sentence; "" for other models.

    stated: numbers with the names of the two columns, which a caption states in their place.
    """
    if "model_layers" not in rows or not len(rows):  # of an earlier version
        return ""
    with_attention, layers = (
        int(rows[name].iloc[0]) for name in ("attention_layers", "model_layers")
    )
    if with_attention == layers:
        return ""
    if stated:
        with_attention, layers = stated["attention_layers"], stated["model_layers"]
    return (
        f" {with_attention} of the model's {layers} layers have attention: every layer means "
        "these, and a share of the depth the nearest, so that several columns may show one layer."
    )


def describe_change(row: Mapping) -> str:
    """The intervention of a combination: over features, before rotary, in every layer."""
    parts = [row["over"], row["stage"], row["scope"]]
    return ", ".join(WORDS[part] for part in parts if not pd.isna(part))


def _compute_maps(
    combination: Combination, clean: Sequence[States], intervened: Intervened | None
) -> Maps | None:
    """The combination's maps; None where a rotation that it needs is not known."""
    options = combination.options
    everywhere = options.scope == "model"
    needed = [states for states in clean if everywhere or states.layer == options.layer]
    unrotates = any(intervention.unrotates for *_, intervention in list_panels(options, 1))
    if unrotates and not all(states.rotated for states in needed):
        return None
    return compute_maps(options, clean, intervened if everywhere else None)


def _measure_references(
    combination: Combination, claims: Sequence[FigureClaim], clean: Sequence[States]
) -> dict[str, Values]:
    options = combination.options
    displayed = [states.load() for states in clean if states.layer == options.layer]
    return measure_references(
        claims, measure_maps, draw_reference_maps(options, displayed, draws=DRAWS)
    )


def _judge(claim: FigureClaim, maps: Maps | None, references: Mapping[str, Values]) -> dict:
    row = {
        **{"claim": claim.id, "statement": claim.statement, "value": None, "reason": None},
        "decided": False,
    }
    try:
        if maps is None:
            raise NotApplicableError("the model has no rotary embedding that can be observed")
        value = pick_value(claim, measure_maps(claim, maps))
    except NotApplicableError as reason:
        return row | {"verdict": NOT_APPLICABLE, "reason": str(reason)}
    verdict = REPRODUCED if claim.holds(value) else NOT_REPRODUCED
    judged = judge_references(claim, value, verdict, references[claim.name])
    kept = {key: judged[key] for key in ("decided", *COUNTS)}
    return row | {"value": value, "verdict": verdict} | kept
