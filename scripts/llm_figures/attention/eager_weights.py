"""Compare attention weights computed from captured states with a model's own eager weights.

The eager attention function of the model's file is called with the queries, keys, values and mask
of the pass, in float32, so that a difference is one of mechanism, not of rounding.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from llm_figures.attention.captured import Captured
from llm_figures.attention.masks import make_additive, make_sliding, select_rows
from llm_figures.core.errors import UserError

# Largest accepted difference of a weight, where rounding does not explain a larger one. Real and
# tiny models of all families stay below 1e-5.
BOUND = 1e-4
# The rounding error of a score in float32, relative to the largest score. A weight changes by at
# most half as much as its scores, and both sides round every sum.
ROUNDING = 4 * torch.finfo(torch.float32).eps
# Largest accepted difference of the attention's output, relative to the largest value, by the data
# type in which the model computes it.
OUTPUT_BOUNDS = {torch.float32: 1e-3, torch.float64: 1e-3}
OUTPUT_BOUND = 0.1
# Queries of a text that are compared in every pass: the first, the last and some between.
ROWS = 24


def find_eager(module: torch.nn.Module) -> Callable | None:
    """The eager attention function of the file that defines an attention layer."""
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


def choose_rows(tokens: int) -> list[int]:
    """The queries that are compared, of a text of so many tokens."""
    return sorted(set(np.linspace(0, tokens - 1, min(tokens, ROWS)).round().astype(int).tolist()))


@torch.inference_mode()
def measure_deviation(
    captured: Captured,
    module: torch.nn.Module,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    options: Mapping,
    rows: Sequence[int],
) -> tuple[float | None, float]:
    """The largest difference of a weight of the queries `rows` from the model's own, and its bound.

    Scores of many thousands, as Qwen 2's, are rounded by more than the weights may differ, on both
    sides. The bound is then that rounding.

    states: query, key and value, as the attention function receives them, for one text.
    mask, options: its other arguments.

    Where a sink takes a share of the softmax, some eager functions return weights before it does.
    Both are then compared as shares of their row; the sink itself enters the output.

    The difference is None if the model's file has no eager attention function, or one that returns
    no weights.
    """
    eager = find_eager(module)
    if eager is None:
        return None, BOUND
    query, key, value = (part.float() for part in states)
    tokens = query.shape[2]
    if mask is None:
        visible = make_sliding(0, tokens, tokens, captured.window)[list(rows)]
        additive = make_additive(visible[None, None].to(query.device))
    else:
        additive = make_additive(mask[:, :, list(rows), :tokens])
    additive = additive.clamp(min=torch.finfo(torch.float32).min)
    options = select_rows(options, list(rows))
    _, theirs = eager(module, query[:, :, list(rows)], key, value, additive, **options)
    bound = max(BOUND, ROUNDING * _find_largest_score(query[:, :, list(rows)], key, captured))
    if theirs is None:
        return None, bound
    theirs = theirs[0].float().cpu().numpy()
    ours = compute_rows(captured, rows)
    if captured.sinks is not None:
        ours = ours / ours.sum(axis=-1, keepdims=True)
        theirs = theirs / theirs.sum(axis=-1, keepdims=True)
    return float(np.abs(ours - theirs).max()), bound


def _find_largest_score(query: torch.Tensor, key: torch.Tensor, captured: Captured) -> float:
    """The largest |query · key| · scaling, before any soft cap, over the heads of one text."""
    group = query.shape[1] // key.shape[1]
    queries = query[0].reshape(key.shape[1], group * query.shape[2], -1)
    return float((queries @ key[0].transpose(1, 2)).abs().max()) * abs(captured.scaling)


def compute_rows(captured: Captured, rows: Sequence[int]) -> np.ndarray:
    """The weights of some queries, from captured states: [heads, rows, tokens (key)]."""
    states = captured.to_states(1, 0)
    tokens = states.query.shape[1]
    weights = np.zeros((states.heads, len(rows), tokens), states.query.dtype)
    for place, row in enumerate(rows):
        weights[:, place, : row + 1] = states.compute_rows(slice(row, row + 1))[:, 0]
    return weights


@torch.inference_mode()
def measure_output_deviation(
    captured: Captured, value: torch.Tensor, output: torch.Tensor, rows: Sequence[int]
) -> float:
    """The largest difference of the attention's output, relative to the largest value.

    value: [1, key-value heads, tokens, value features]. output: [1, tokens, heads, value features],
    what the implementation that the model runs returned.
    """
    value = value[0].float().cpu().numpy()
    weights = compute_rows(captured, rows)
    expected = weights @ np.repeat(value, len(weights) // len(value), axis=0)
    theirs = output[0, list(rows)].float().cpu().numpy().transpose(1, 0, 2)
    return float(np.abs(expected - theirs).max() / max(np.abs(value).max(), 1e-30))


def check_states(query: torch.Tensor, key: torch.Tensor, layer: int, intervened: bool) -> None:
    """Check that queries and keys are finite.

    intervened: whether an intervention was made in the layer.

    Raises:
        UserError: they are not; names a likely cause.
    """
    if bool(torch.isfinite(query).all()) and bool(torch.isfinite(key).all()):
        return
    dtype = str(query.dtype).removeprefix("torch.")
    cause = (
        "its intervention or an earlier one overflows; take a smaller epsilon"
        if intervened
        else f"the model's weights hold such values, or the pass overflows in {dtype}"
        + ("; check the weights" if query.dtype == torch.float32 else "; set dtype: float32")
    )
    raise UserError(f"queries or keys of layer {layer} are not finite: {cause}")


def check_deviation(captured: Captured, layer: int, model_type: str, dtype: torch.dtype) -> None:
    """Check that the measured deviations are within their bounds.

    Raises:
        UserError: they are not, or are not finite, or nothing could be compared.
    """
    bound = captured.bound or BOUND
    output_bound = max(OUTPUT_BOUNDS.get(dtype, OUTPUT_BOUND), 10 * bound)
    measures = {
        "attention weights": (captured.deviation, bound),
        "attention outputs": (captured.output_deviation, output_bound),
    }
    known = {what: measure for what, measure in measures.items() if measure[0] is not None}
    for what, (deviation, bound) in known.items():
        if not deviation <= bound:
            raise UserError(
                f"models of type {model_type}: {what} of layer {layer} computed from its queries "
                f"and keys differ from the model's own by {deviation:.2g} (at most {bound:g} is "
                "accepted), so its maps would be wrong; choose another model"
            )
    if not known:
        raise UserError(
            f"models of type {model_type}: the attention of layer {layer} returns no weights that "
            "its maps could be compared with; choose another model"
        )
