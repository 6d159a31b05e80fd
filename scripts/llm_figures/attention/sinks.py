"""The table of `sink_map`: how much each head attends to every token, and the tokens' norms."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.maps import LayerStates, key_importance
from llm_figures.attention.options import SinkMap, SinkScoring
from llm_figures.attention.qk_store import StoredStates
from llm_figures.core.errors import UserError

# Of the column `component`, in the order of the table.
NORMS = ("query", "key", "value")
COMPONENTS = ("attention", *NORMS)
# Percentiles of the bands of norms.
BAND = (5, 95)


def score_sinks(states: Sequence[LayerStates | StoredStates], options: SinkScoring) -> pd.DataFrame:
    """One row per text, layer, component, head and position of the first `options.tokens` tokens.

    states: the clean states of every layer and text.

    Columns: input, from 1; text_tokens: of the whole text; tokens: those that count, T; layer and
    position, from 0; model_layers; reach: how many of the first T queries may attend to the first
    token; component; head: of the queries, or of the keys and values; value. Its value is α of the
    key at this position for the component `attention` (see `maps.key_importance`), else the L2 norm
    of the query, key or value as the attention function receives it: after rotary embedding and any
    norm.

    The map of the first T tokens is the upper left part of the whole text's, since no query attends
    to a later key.

    Raises:
        UserError: states without norms of values; norms that are not finite.
    """
    layers = states[0].model_layers or 1 + max(one.layer for one in states)
    return pd.concat(
        [_score_layer(one.load(), options.tokens, layers) for one in states], ignore_index=True
    )


def _score_layer(states: LayerStates, most: int, model_layers: int) -> pd.DataFrame:
    where = f"forward/attention_states.parquet: input {states.input}, layer {states.layer}"
    if states.value_norm is None:
        raise UserError(
            f"{where}: no norms of values, which earlier versions did not store; remove the file "
            "and run again"
        )
    text_tokens = states.query.shape[1]
    tokens = min(most, text_tokens)
    values = {
        "attention": key_importance(states.compute_rows(slice(0, tokens))),
        "query": _measure_norms(states.query[:, :tokens]),
        "key": _measure_norms(states.key[:, :tokens]),
        "value": states.value_norm[:, :tokens].astype(np.float64),
    }
    if not all(np.isfinite(part).all() for part in values.values()):
        raise UserError(f"{where}: weights or norms are NaN or infinite; check the model's weights")
    layer = {
        "input": states.input,
        "text_tokens": text_tokens,
        "tokens": tokens,
        "layer": states.layer,
        "model_layers": model_layers,
        "reach": count_reach(states, tokens),
    }
    return pd.concat([_list_rows(layer, name, values[name]) for name in COMPONENTS])


def _measure_norms(states: np.ndarray) -> np.ndarray:
    """L2 norms over the head dimension: [heads, tokens, head_dim] -> [heads, tokens]."""
    return np.linalg.norm(states.astype(np.float64), axis=-1)


def _list_rows(layer: Mapping, component: str, values: np.ndarray) -> pd.DataFrame:
    """values: [heads, positions]."""
    head, position = (place.ravel() for place in np.indices(values.shape))
    columns = {"component": component, "head": head, "position": position, "value": values.ravel()}
    return pd.DataFrame({**layer, **columns})


def count_reach(states: LayerStates, tokens: int) -> int:
    """How many of the first `tokens` queries may attend to the first token, in the widest head."""
    if states.bias is not None:
        return int((states.bias[:, :tokens, 0] > -np.inf).sum(axis=1).max())
    return tokens if states.window is None else min(states.window, tokens)


def summarize(scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """What the panels by layer show, from the table of `sinks.score_sinks`; indexed by layer.

    Columns, each a mean over texts and heads: alpha_first is α of the first token, rate_first the
    share of texts and heads where it exceeds the threshold; alpha_other and rate_other are the
    largest of any later position up to T/2, which half of the queries see unless there is a window.
    {query, key, value}_first and _others are L2 norms, of the others over tokens, too; with _low
    and _high at the ends of the middle 90% of their values.
    """
    attention = scores[scores["component"] == "attention"]
    attention = attention.assign(sink=attention["value"] > threshold)
    first = attention[attention["position"] == 0].groupby("layer")[["value", "sink"]].mean()
    inside = attention["position"].between(1, attention["tokens"] // 2)
    other = attention[inside].groupby(["layer", "position"])[["value", "sink"]].mean()
    other = other.groupby("layer").max()
    found = {
        "alpha_first": first["value"],
        "alpha_other": other["value"],
        "rate_first": first["sink"],
        "rate_other": other["sink"],
    }
    for component in NORMS:
        norms = scores[scores["component"] == component]
        for name, part in (
            ("first", norms[norms["position"] == 0]),
            ("others", norms[norms["position"] > 0]),
        ):
            values = part.groupby("layer")["value"]
            found[f"{component}_{name}"] = values.mean()
            for end, percentile in zip(("low", "high"), BAND, strict=True):
                found[f"{component}_{name}_{end}"] = values.quantile(percentile / 100)
    return pd.DataFrame(found)


def summarize_uniform(scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """alpha_first and rate_first of `summarize` if each query attended alike to all that it sees.

    α of the first token is then Σ_{i=1..R} 1/i / T where the first R of T queries see it; for a
    text of 9 tokens or fewer it is above 0.3.
    """
    texts = scores.drop_duplicates(["input", "layer"])
    harmonic = [(1 / np.arange(1, reach + 1)).sum() for reach in texts["reach"]]
    alpha = harmonic / texts["tokens"]
    values = pd.DataFrame({"alpha_first": alpha, "rate_first": alpha > threshold})
    return values.groupby(texts["layer"]).mean()


def list_claim_cells(scores: pd.DataFrame, options: SinkMap) -> pd.DataFrame:
    """The cells that claims are about: row (the layer), column, control, value.

    Columns are alpha_1 and sink_rate of the first token, alpha_other and sink_rate_other of later
    ones (see `summarize`), and query_share, key_share and value_share: the first token's mean norm
    as a part of the sum of its own and the others', 0.5 where the two are equal. All lie from 0 to
    1, where references of claims are drawn, too; a ratio of norms has no upper end. The control
    uniform is attention that is spread alike over what a query sees.
    """
    layers = summarize(scores, options.threshold)
    uniform = summarize_uniform(scores, options.threshold)
    columns = {
        ("none", "alpha_1"): layers["alpha_first"],
        ("none", "alpha_other"): layers["alpha_other"],
        ("none", "sink_rate"): layers["rate_first"],
        ("none", "sink_rate_other"): layers["rate_other"],
        **{
            ("none", f"{component}_share"): layers[f"{component}_first"]
            / (layers[f"{component}_first"] + layers[f"{component}_others"])
            for component in NORMS
        },
        ("uniform", "alpha_1"): uniform["alpha_first"],
        ("uniform", "sink_rate"): uniform["rate_first"],
    }
    return pd.concat(
        [
            pd.DataFrame({"row": own.index, "column": column, "control": control, "value": own})
            for (control, column), own in columns.items()
        ],
        ignore_index=True,
    )
