"""Scores of the module map from the projections' activity."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
    strength = activity["output_norm"] / (activity["weight_norm"] * activity["input_norm"])
    per_row = {
        "operation_strength": strength,
        "output_rms": activity["output_norm"] ** 2 / activity["d_out"],
        "input_alignment": strength * np.sqrt(activity["d_in"]),
    }
    frames = []
    for metric in metrics:
        means = (
            activity.assign(value=per_row[metric])
            .groupby(["layer", "module"], sort=False)["value"]
            .mean()
            .reset_index()
        )
        if metric == "output_rms":
            means["value"] = np.sqrt(means["value"])
        means.insert(2, "metric", metric)
        frames.append(means)
    return pd.concat(frames, ignore_index=True)
