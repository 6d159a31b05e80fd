"""Scores of the module map, from the files of its measures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.models.projection_families import layout_of
from llm_figures.models.projection_layouts import COLUMNS
from llm_figures.modules.metrics import METRICS

SCORES = ["layer", "projection", "metric", "value", "note"]


def compute_scores(
    measure: str,
    tables: Mapping[str, pd.DataFrame],
    metric: str,
    model_info: Mapping | None = None,
) -> pd.DataFrame:
    """One metric's rows of modules/scores.parquet: layer, projection, metric, value, note, d_in.

    measure: of the metric, see `metrics.Metric`. tables: {measure: its table}. model_info: of the
        model; with it the table has every layer × projection.

    note: why a cell has no value, which is NaN then: the layer has no such projection, or the
    metric is not defined. Else what the layer has that no column shows, or "". d_in: the size of
    the projection's inputs, of metrics of its activity.

    Raises:
        UserError: a value that is not a finite number, for no reason that a note can name.
    """
    table = tables[measure]
    if measure == "activity":
        table = score_activity(table, [metric])
    elif measure == "ablation":
        table = score_ablation(table)
    size = ["d_in"] if measure == "activity" else []
    scores = table.loc[table["metric"] == metric, [*SCORES[:-1], *size]]
    undefined = METRICS[metric].undefined
    noted = scores["value"].isna() & bool(undefined)
    _check_finite(scores[~noted], metric)
    scores = scores.assign(note=np.where(noted, undefined or "", ""))
    if model_info is not None:
        scores = _add_absent(scores, metric, model_info)
    # in the figure's order, which may not be that in which a block applies its projections
    order = scores["projection"].map({name: number for number, name in enumerate(COLUMNS)})
    return scores.assign(order=order).sort_values(["layer", "order"]).drop(columns="order")


def _check_finite(scores: pd.DataFrame, metric: str) -> None:
    bad = scores[~np.isfinite(scores["value"].to_numpy(float))]
    if len(bad):
        first = bad.iloc[0]
        raise UserError(
            f"figures.module_map.metric: {metric} of layer {first['layer']}, "
            f"{first['projection']}, is {first['value']} (and {len(bad) - 1} more cells are not "
            "finite); its weights or activations hold NaN, infinite or too large numbers: check "
            "the weights, or leave this metric out"
        )


def _add_absent(scores: pd.DataFrame, metric: str, model_info: Mapping) -> pd.DataFrame:
    """Add a row without a value for each projection that other layers have."""
    layout = layout_of(model_info.get("model_type"))
    if layout.beside:
        scores = scores.assign(note=scores["note"].where(scores["note"] != "", layout.beside))
    layers = model_info.get("layers") or int(scores["layer"].max()) + 1
    known = set(zip(scores["layer"], scores["projection"], strict=True))
    absent = [
        (layer, name, metric, np.nan, layout.explain_absence(name))
        for layer in range(layers)
        for name in scores["projection"].unique()
        if (layer, name) not in known
    ]
    if not absent:
        return scores
    rows = pd.DataFrame(absent, columns=SCORES).astype({"layer": scores["layer"].dtype})
    return pd.concat([scores, rows], ignore_index=True)


def score_activity(activity: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per layer × projection × metric: layer, projection, metric, value, d_in.

    activity: from `activity.measure_activity`. All rows have equal weight: with experts, every pair
    of a token and an expert that it is routed to.

    operation_strength: mean of ‖Wx‖ / (‖W‖_F ‖x‖). Dimensionless, between 0 and 1. Tokens with
        x = 0 are left out; NaN if there are no others, or if W = 0.
    output_rms: root of the mean of ‖Wx‖² / d_out, the size of one output.
    input_alignment: mean of ‖Wx‖ / √E‖Wr‖², where r has x's norm and a uniformly random direction.
        As E‖Wr‖² = ‖W‖_F² ‖x‖² / d_in, it is operation_strength × √d_in. Above 1, W amplifies its
        inputs more than random directions.
    """
    frames = []
    for metric in metrics:
        by_cell = activity.assign(value=_values(activity, metric)).groupby(
            ["layer", "projection"], sort=False
        )
        means = by_cell["value"].mean().reset_index()
        if metric == "output_rms":
            means["value"] = np.sqrt(means["value"])
        means.insert(2, "metric", metric)
        frames.append(means.assign(d_in=by_cell["d_in"].first().to_numpy()))
    return pd.concat(frames, ignore_index=True)


def _values(activity: pd.DataFrame, metric: str) -> pd.Series:
    """The metric of each row, for output_rms its square."""
    if metric == "output_rms":
        return activity["output_norm"].astype(float) ** 2 / activity["d_out"]
    sizes = activity["weight_norm"].astype(float) * activity["input_norm"].astype(float)
    strength = activity["output_norm"] / sizes.where(sizes > 0)
    return strength * np.sqrt(activity["d_in"]) if metric == "input_alignment" else strength


def score_ablation(effects: pd.DataFrame) -> pd.DataFrame:
    """ablation_effect (rise of the loss) and ablation_kl, averaged over all tokens of all texts.

    effects: from `ablation.measure_ablation`.

    Returns the columns layer, projection, metric, value, in nats per token.
    """
    frames = []
    for metric, column, weight in (
        ("ablation_effect", "loss_rise", "predicted"),
        ("ablation_kl", "kl", "positions"),
    ):
        weighted = effects.assign(value=effects[column] * effects[weight])
        sums = weighted.groupby(["layer", "projection"], sort=False)[["value", weight]].sum()
        scores = (sums["value"] / sums[weight]).rename("value").reset_index()
        scores.insert(2, "metric", metric)
        frames.append(scores)
    return pd.concat(frames, ignore_index=True)
