"""The module map's score: how strongly a projection acts, whatever its size."""

import pandas as pd


def operation_strength(activity: pd.DataFrame) -> pd.DataFrame:
    """‖Wx‖ / (‖W‖_F ‖x‖), averaged over the tokens of all texts.

    Dimensionless. For x in a random direction it is about 1/√d_in: E‖Wx‖² = ‖W‖_F² ‖x‖² / d_in.

    activity: rows as made by `projections.module_activity`.
    Returns one row per layer × module: layer, module, metric, value.
    """
    strength = activity["output_norm"] / (activity["weight_norm"] * activity["input_norm"])
    scores = (
        activity.assign(value=strength)
        .groupby(["layer", "module"], sort=False)["value"]
        .mean()
        .reset_index()
    )
    scores.insert(2, "metric", "operation_strength")
    return scores
