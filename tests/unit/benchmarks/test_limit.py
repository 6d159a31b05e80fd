"""How many operations a pass is said to take."""

import limit
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny


@pytest.fixture(scope="module")
def model():
    made = tiny.model()
    made.set_attn_implementation("eager")  # whole maps, whose upper half is then masked
    return made


def test_operations_are_those_of_a_pass(model):
    tokens, layers = 12, len(model.model.layers)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.arange(tokens)[None], use_cache=False)
    rotary = sum(
        count
        for name, counts in counter.get_flop_counts().items()
        if name.endswith("rotary_emb")
        for count in counts.values()
    )
    assert counter.get_total_flops() - rotary == (
        limit.block_operations(model, tokens)
        + 2 * limit.attention_operations(model, tokens, layers)
        + limit.head_operations(model, tokens)
    )


def test_a_shared_prefix_counts_once(model):
    apart = sum(limit.shared_operations(model, [length], 0) for length in (20, 30, 40))
    assert limit.shared_operations(model, [20, 30, 40], 0) == apart
    prefix = limit.shared_operations(model, [16], 0)
    assert limit.shared_operations(model, [20, 30, 40], 16) == apart - 2 * prefix
