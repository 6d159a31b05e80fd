"""Scores of the module map, from the files of its measures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.models.projection_layouts import COLUMNS


def compute_scores(measure: str, tables: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """One metric's rows of modules/scores.parquet: layer, projection, metric, value.

    measure: of the metric, see `metrics.Metric`. tables: {measure: its table}.
    """
    table = tables[measure]
    if measure == "activity":
        table = score_activity(table, [metric])
    elif measure == "ablation":
        table = score_ablation(table)
    scores = table.loc[table["metric"] == metric, ["layer", "projection", "metric", "value"]]
    # in the figure's order, which may not be that in which a block applies its projections
    order = scores["projection"].map({name: number for number, name in enumerate(COLUMNS)})
    return scores.assign(order=order).sort_values(["layer", "order"]).drop(columns="order")


def score_activity(activity: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per layer × projection × metric: layer, projection, metric, value.

    activity: from `activity.measure_activity`. All rows have equal weight: with experts, every pair
    of a token and an expert that it is routed to.

    operation_strength: mean of ‖Wx‖ / (‖W‖_F ‖x‖). Dimensionless, between 0 and 1.
    output_rms: root of the mean of ‖Wx‖² / d_out, the size of one output.
    input_alignment: mean of ‖Wx‖ / √E‖Wr‖², where r has x's norm and a uniformly random direction.
        As E‖Wr‖² = ‖W‖_F² ‖x‖² / d_in, it is operation_strength × √d_in. Above 1, W amplifies its
        inputs more than random directions.
    """
    frames = []
    for metric in metrics:
        means = (
            activity.assign(value=_values(activity, metric))
            .groupby(["layer", "projection"], sort=False)["value"]
            .mean()
            .reset_index()
        )
        if metric == "output_rms":
            means["value"] = np.sqrt(means["value"])
        means.insert(2, "metric", metric)
        frames.append(means)
    return pd.concat(frames, ignore_index=True)


def _values(activity: pd.DataFrame, metric: str) -> pd.Series:
    """The metric of each row, for output_rms its square."""
    if metric == "output_rms":
        return activity["output_norm"] ** 2 / activity["d_out"]
    strength = activity["output_norm"] / (activity["weight_norm"] * activity["input_norm"])
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
