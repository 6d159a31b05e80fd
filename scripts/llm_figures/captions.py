"""What a reader must know of a figure and cannot see in it: the text beside the picture."""

import pandas as pd

from llm_figures.module_figure import colour_limits


def attention_caption(cells: pd.DataFrame, model: str, options: dict) -> str:
    """Model, layer, head, operation and scope of an attention figure."""
    first = cells.iloc[0]
    why = ", where the unaltered model's sink is strongest" if options["layer"] == "auto" else ""
    head = "averaged over its heads" if first["head"] == "mean" else f"head {first['head']}"
    axis = {"features": "head dimension", "tokens": "token positions"}[options["over"]]
    made = (
        f"replaced by its mean over the {axis}"
        if options["operation"] == "mean"
        else "multiplied by ε"
    )
    where = "in this layer alone" if options["scope"] == "layer" else "in every layer"
    low, high = options["limits"]
    return (
        f"Attention weights of {model}, layer {first['layer']} (from 0){why}, {head}. Query, Key "
        f"or Value, after rotary embedding, is {made}, {where}. Rows are query positions from the "
        f"top, columns key positions. Colours span {low:g} to {high:g}.\n"
    )


def probe_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """What the probe is, the best cell, its controls, and the cells without a score."""
    chosen = scores[(scores["metric"] == options["metric"])]
    shown = chosen[(chosen["control"] == "none") & chosen["token"].isin(options["tokens"])]
    shuffled = chosen[chosen["control"] == "shuffled_labels"]
    name = {"auc": "AUC", "accuracy": "Accuracy"}[options["metric"]]
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    low, high = options["limits"]
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    scored = shown.dropna(subset="mean")
    finding = ""
    if len(scored):
        best = scored.loc[scored["mean"].idxmax()]
        embedding = shown[(shown["layer"] == 0) & (shown["token"] == best["token"])].iloc[0]
        finding = (
            f" {best['folds']} cross-validation folds by question. Best cell: layer "
            f"{best['layer']}, {best['token']}: {best['mean']:.3f} [{best['ci_low']:.3f}, "
            f"{best['ci_high']:.3f}]. The same token in the embeddings, which know no context: "
            f"{embedding['mean']:.3f}. Trained on shuffled labels, the cells average "
            f"{shuffled['mean'].mean():.3f}."
        )
    fits = chosen.drop_duplicates(["layer", "token"])["unconverged"].sum()
    warning = f" {fits} fits did not converge." if fits else ""
    return (
        f"{name} of a linear probe on the residual stream of {model} that detects a wrong answer, "
        f"by layer (0 is the embeddings) and token.{finding}{missing}{warning} Colours span "
        f"{low:g} to {high:g}; lower values take the lightest.\n"
    )


def module_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """The formula and the range."""
    values = scores.loc[scores["metric"] == options["metric"], "value"]
    low, high = colour_limits(values.to_numpy(), options["limits"])
    return (
        f"Operation strength ‖Wx‖ / (‖W‖_F ‖x‖) of every projection of {model}, averaged over the "
        "tokens of the texts (without bias). Dimensionless; 1/√d_in for an input in a random "
        f"direction. Values span {values.min():.4f} to {values.max():.4f}, colours {low:.4f} to "
        f"{high:.4f}; layer 0 at the bottom.\n"
    )
