"""What is captured of a layer's mask, position bias and sinks."""

import pytest
import torch

from llm_figures.attention import masks
from llm_figures.attention.masks import (
    capture_mask,
    capture_sinks,
    check_arguments,
    make_sliding,
    select_rows,
)
from llm_figures.core.errors import UserError

TOKENS = 9
CAUSAL = make_sliding(0, TOKENS, TOKENS, None)
WINDOW = make_sliding(0, TOKENS, TOKENS, 4)
CHUNKS = CAUSAL & (torch.arange(TOKENS)[:, None] // 4 == torch.arange(TOKENS) // 4)


def as_numbers(visible, dtype=torch.float32):
    return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def capture(mask=None, position_bias=None, window=None, heads=2):
    mask = mask if mask is None or mask.ndim == 4 else mask[None, None]
    return capture_mask(mask, position_bias, heads, TOKENS, window, "layer 3")


FORMS = [
    lambda visible: visible,
    as_numbers,
    lambda visible: as_numbers(visible, torch.bfloat16),
    lambda visible: torch.cat([as_numbers(visible), torch.zeros(TOKENS, 3)], dim=1),  # longer keys
]


@pytest.mark.parametrize("form", FORMS, ids=["bool", "float32", "bfloat16", "more_keys"])
@pytest.mark.parametrize(
    ("visible", "told", "window"),
    [
        (CAUSAL, None, None),
        (WINDOW, 4, 4),
        (WINDOW, None, 4),  # the model does not name its window
        (CAUSAL, 4, None),  # the mask says otherwise
        (CAUSAL, TOKENS, TOKENS),  # a window that the text does not reach
    ],
    ids=["causal", "window", "not_told", "told_in_vain", "not_reached"],
)
def test_a_causal_mask_and_its_window_are_a_number(form, visible, told, window):
    assert capture(form(visible), window=told) == (window, None)


def test_a_kernel_that_masks_by_itself_has_the_window_that_it_is_told():
    assert capture(window=4) == (4, None)
    assert capture() == (None, None)


@pytest.mark.parametrize("form", FORMS, ids=["bool", "float32", "bfloat16", "more_keys"])
def test_another_mask_is_kept_as_it_is(form):
    window, bias = capture(form(CHUNKS), window=4)
    assert window is None
    assert bias.dtype == torch.float32
    assert torch.equal(bias, torch.zeros(CHUNKS.shape).masked_fill(~CHUNKS, -torch.inf)[None])


def test_values_in_a_mask_and_masks_of_each_head_are_kept():
    values = torch.randn(2, TOKENS, TOKENS, generator=torch.Generator().manual_seed(0))
    mask = values.masked_fill(~torch.stack([CAUSAL, CHUNKS]), torch.finfo(torch.float32).min)
    _, bias = capture(mask[None])
    assert torch.equal(bias, values.masked_fill(~torch.stack([CAUSAL, CHUNKS]), -torch.inf))


@pytest.mark.parametrize("mask", [None, CAUSAL, as_numbers(CAUSAL)], ids=["none", "bool", "number"])
def test_a_position_bias_is_added_to_the_mask(mask):
    position_bias = torch.randn(1, 2, TOKENS, TOKENS, generator=torch.Generator().manual_seed(0))
    _, bias = capture(mask, position_bias)
    assert torch.equal(bias, position_bias[0].masked_fill(~CAUSAL, -torch.inf))


def test_what_is_no_causal_map_is_refused():
    with pytest.raises(UserError, match="^layer 3: a token attends to later ones"):
        capture(torch.ones(TOKENS, TOKENS, dtype=torch.bool))
    blind = CAUSAL.clone()
    blind[5] = False
    with pytest.raises(UserError, match="^layer 3: a token attends to none"):
        capture(blind)
    with pytest.raises(UserError, match="a token attends to none"):
        capture(torch.zeros(TOKENS, TOKENS, dtype=torch.bool))  # a window of 0
    with pytest.raises(UserError, match="^layer 3: its mask is made for 3 heads, not for 2"):
        capture(torch.stack([CHUNKS] * 3)[None])
    with pytest.raises(UserError, match="^layer 3: its mask has 4 rows for 9 tokens"):
        capture(CAUSAL[:4])


def test_a_bias_that_is_too_large_is_refused_with_the_longest_text(monkeypatch):
    monkeypatch.setattr(masks, "BIAS_BYTES", 4 * 2 * 8**2)
    bias = torch.zeros(1, 2, TOKENS, TOKENS)
    with pytest.raises(UserError, match="for 9 tokens; use texts of at most 8 tokens"):
        capture(CAUSAL, bias)


def test_masks_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr(masks, "BLOCK_ENTRIES", 2 * TOKENS)
    assert capture(WINDOW) == (4, None)
    last = WINDOW.clone()
    last[-2, 0] = True
    assert capture(last)[1] is not None


def test_an_argument_that_is_not_known_is_refused_by_name():
    check_arguments({"scaling": 0.5, "dropout": 0.0, "alibi": None, "packed": False}, 2, "mine")
    with pytest.raises(
        UserError, match="type mine pass alibi, weights to the attention of layer 2"
    ):
        check_arguments({"scaling": 0.5, "weights": 1, "alibi": torch.ones(2)}, 2, "mine")


def test_sinks_are_those_that_the_kernel_gets_or_the_layer_has():
    layer = torch.nn.Linear(2, 2)
    assert capture_sinks(layer, {}) is None
    layer.sinks = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    assert capture_sinks(layer, {}).tolist() == [1.0, 2.0]
    assert capture_sinks(layer, {"s_aux": torch.tensor([3.0, 4.0])}).tolist() == [3.0, 4.0]
    by_query = torch.arange(2 * TOKENS).reshape(1, 2, TOKENS, 1).float()
    assert torch.equal(capture_sinks(layer, {"sinks": by_query}), by_query[0, ..., 0])


def test_arguments_of_some_queries_are_theirs():
    by_query = torch.arange(2 * TOKENS).reshape(1, 2, TOKENS, 1)
    selected = select_rows({"sinks": by_query, "scaling": 0.5}, [1, 4])
    assert selected["scaling"] == 0.5
    assert selected["sinks"].flatten().tolist() == [1, 4, TOKENS + 1, TOKENS + 4]
