"""Scores of the module map, from what was measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.models.projection_layouts import PROJECTIONS


def scores_of_measure(
    measure: str, tables: Mapping[str, pd.DataFrame], metric: str
) -> pd.DataFrame:
    """One metric's rows of modules/scores.parquet: layer, module, metric, value.

    tables: what was measured, by measure (see `metrics.Metric`).
    """
    table = tables[measure]
    if measure == "activity":
        table = activity_scores(table, [metric])
    elif measure == "ablation":
        table = ablation_scores(table)
    found = table.loc[table["metric"] == metric, ["layer", "projection", "metric", "value"]]
    # in the figure's order, in whichever a family's blocks apply their projections
    place = found["projection"].map({name: place for place, name in enumerate(PROJECTIONS)})
    return found.assign(place=place).sort_values(["layer", "place"]).drop(columns="place")


def activity_scores(activity: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per layer × module × metric: layer, module, metric, value.

    activity: rows as made by `module_activity.module_activity`; every row counts alike, so where
    there are experts every pair of a token and an expert that it is routed to does.

    operation_strength: mean of ‖Wx‖ / (‖W‖_F ‖x‖). Dimensionless, between 0 and 1.
    output_rms: root of the mean of ‖Wx‖² / d_out, the size of one output.
    input_alignment: mean of ‖Wx‖ over √E‖Wr‖² for directions r of x's norm, uniformly random; as
        E‖Wr‖² = ‖W‖_F² ‖x‖² / d_in it is operation_strength × √d_in. Above 1, W takes up what its
        input holds more than any direction.
    """
    frames = []
    for metric in metrics:
        means = (
            activity.assign(value=_by_row(activity, metric))
            .groupby(["layer", "projection"], sort=False)["value"]
            .mean()
            .reset_index()
        )
        if metric == "output_rms":
            means["value"] = np.sqrt(means["value"])
        means.insert(2, "metric", metric)
        frames.append(means)
    return pd.concat(frames, ignore_index=True)


def _by_row(activity: pd.DataFrame, metric: str) -> pd.Series:
    if metric == "output_rms":
        return activity["output_norm"] ** 2 / activity["d_out"]
    strength = activity["output_norm"] / (activity["weight_norm"] * activity["input_norm"])
    return strength * np.sqrt(activity["d_in"]) if metric == "input_alignment" else strength


def ablation_scores(effects: pd.DataFrame) -> pd.DataFrame:
    """`module_ablation.ablation_effects` averaged over all tokens of all texts.

    Columns layer, module, metric, value.

    Metrics ablation_effect (rise of the loss) and ablation_kl, both in nats per token.
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
