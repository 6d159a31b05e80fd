"""Rows of unequal length against plain passes, and to the bit whatever is beside them."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import families
import tiny
from llm_figures.inference import rows as module
from llm_figures.inference.generation import generate
from llm_figures.inference.prefix_cache import PrefixCache
from llm_figures.inference.rows import Rows, attend_rows, find_reach, settle
from llm_figures.models.cpu_kernels import prepare_for_cpu
from llm_figures.models.decoders import decoder

random = np.random.default_rng(4)
PREFIX = random.integers(5, 380, 20).tolist()
# Their ends fall into the first, the second, the third and the fourth block of columns.
OWN = [random.integers(5, 380, length).tolist() for length in (9, 1, 40, 30, 9, 70, 140, 2)]
ALL = range(len(OWN))
STEPS = 4
WIDE = {"sliding_window": 300}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
MIXING = {
    "llama": {},
    "neox": {},
    "gpt2": {},
    "opt": {},
    "smollm3": {},
    "cohere": {},
    "gemma2": WIDE,
    "gemma3": WIDE,
    "mistral": WIDE,
}


@pytest.fixture(scope="module", params=MIXING)
def model(request):
    model = tiny.model(request.param, **MIXING[request.param])
    prepare_for_cpu(model)  # as loaded; torch's own products of so few features follow the threads
    return model


@torch.inference_mode()
def run(model, prefix, chosen, late=(), threads=1):
    """{sequence: states [steps, hidden]} of its last `STEPS` tokens, which are run one by one.

    late: sequences that enter when the others have been run over one token.
    """
    torch.set_num_threads(threads)
    rows = PrefixCache(model, prefix).open_rows(mixed=True)
    sequences = {index: [0, *OWN[index], 11, 12, 13] for index in chosen}
    states = {index: [] for index in chosen}
    entering, running = [index for index in chosen if index not in late], []
    while entering or running:
        rows.add([sequences[index][:-STEPS] for index in entering])
        running += entering
        tokens = [sequences[index][len(states[index]) - STEPS] for index in running]
        output = rows.run(decoder(model), tokens)[0]
        for at, index in enumerate(running):
            states[index].append(output[at, 0].clone())
        entering = [index for index in late if not states[index]]
        going = [at for at, index in enumerate(running) if len(states[index]) < STEPS]
        going = [going[at] for at in settle(going)]
        rows.select(going)
        running = [running[at] for at in going]
    torch.set_num_threads(1)
    return {index: torch.stack(found) for index, found in states.items()}


@pytest.mark.parametrize("prefix", [PREFIX, []])
@torch.inference_mode()
def test_states_are_those_of_a_plain_pass(model, prefix):
    assert PrefixCache(model, prefix).mixes(200)
    for index, found in run(model, prefix, ALL, late=[1, 6]).items():
        ids = torch.tensor([[*prefix, 0, *OWN[index], 11, 12, 13]])
        expected = decoder(model)(input_ids=ids, use_cache=False)[0][0, -STEPS:]
        assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_bit_depends_on_the_other_rows(model, dtype):
    model = model.to(dtype)
    try:
        reference = run(model, PREFIX, ALL)
        for chosen, late, threads in (
            ([0], [], 2),
            ([4, 7, 1], [7], 1),
            ([6, 0, 2], [0], 2),
            (ALL, [5, 2, 3], 1),
            ([*ALL][::-1], [], 2),
        ):
            for index, found in run(model, PREFIX, chosen, late, threads).items():
                assert torch.equal(found, reference[index]), (index, chosen)
    finally:
        model.to(torch.float32)


@torch.inference_mode()
def test_a_row_can_be_divided():
    """Both copies go on as the row itself, whatever token the other takes."""
    model = tiny.model("llama")
    rows = PrefixCache(model, PREFIX).open_rows(mixed=True)
    rows.add([OWN[0], OWN[2]])
    rows.run(decoder(model), [5, 5])
    rows.select([1, 0, 1, 1, 1])
    rows.run(decoder(model), [6, 6, 7, 8, 9])
    found = rows.run(decoder(model), [10] * 5)[0][:5, 0]
    for at, (own, token) in enumerate([(2, 6), (0, 6), (2, 7), (2, 8), (2, 9)]):
        ids = torch.tensor([[*PREFIX, *OWN[own], 5, token, 10]])
        expected = decoder(model)(input_ids=ids, use_cache=False)[0][0, -1]
        assert (found[at] - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("prefix", [0, 12])
def test_attention_is_torchs_own(softcap, prefix):
    torch.manual_seed(0)
    columns = [3, 40, 0, 63]
    query = torch.randn(4, 6, 1, 16)
    shared, own = torch.randn(2, 1, 2, prefix, 16), torch.randn(2, 4, 2, 64, 16)
    places = module._Places(prefix)
    places.write(columns)
    key, value = own.clone()
    layer = SimpleNamespace(keys=shared[0], values=shared[1])
    key.rows_layer = module._RowsLayer(layer, places)
    found, _ = attend_rows(None, query, key, value, None, scaling=0.3, softcap=softcap)
    for row, column in enumerate(columns):
        keys, values = (
            torch.cat([one[0], two[row, :, : column + 1]], dim=1).repeat_interleave(3, dim=0)
            for one, two in zip(shared, own, strict=True)
        )
        if softcap is None:
            expected = scaled_dot_product_attention(query[row], keys, values, scale=0.3)
        else:
            scores = (0.3 * query[row] @ keys.transpose(1, 2) / softcap).tanh() * softcap
            expected = scores.softmax(-1) @ values
        torch.testing.assert_close(found[row, 0], expected[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("mistral", {}, None),  # a window shorter than the prefix
        ("phi", {"rope_parameters": DYNAMIC}, None),
        ("gpt_oss", WIDE, "attention with s_aux"),
        ("deepseek", {}, "other keys than the cache gives"),
        ("bloom", {}, "sequences of one length"),
        ("qwen3_next", {}, None),
        ("jamba", {}, None),
    ],
)  # fmt: skip
def test_other_models_keep_to_batches_of_one_length(family, changes, reason, caplog):
    known = family in {*MIXING, "phi", "gpt_oss", "deepseek"}
    model = tiny.model(family, **changes) if known else families.tiny_model(family)
    with caplog.at_level(logging.INFO), torch.inference_mode():
        assert not PrefixCache(model, PREFIX).mixes(40)
    if reason:
        assert "continue only sequences of one length in a batch" in caplog.text
        assert reason in caplog.text
    else:
        assert find_reach(model) < len(PREFIX)


def answer(model, prompts, batch_size, prefix=PREFIX):
    batches = generate(
        model, tiny.tokenizer(), prompts, stop=["e"], max_new_tokens=9, batch_size=batch_size,
        prefix=prefix,
    )  # fmt: skip
    return {one.index: one for batch in batches for one in batch}


def test_only_prompts_within_the_window_share_a_batch():
    """Which ones follows from each prompt alone, so that no bit depends on the shard."""
    model = tiny.model("mistral", sliding_window=80)
    prompts = [PREFIX + own for own in OWN]
    assert [len(prompt) + 9 <= 80 for prompt in prompts].count(True) == 6
    reference = answer(model, prompts, 64)
    for index, prompt in enumerate(prompts):
        with torch.inference_mode():
            expected = model.generate(torch.tensor([prompt]), max_new_tokens=9, do_sample=False)
        found = reference[index].answer_ids
        assert found == expected[0, len(prompt) : len(prompt) + len(found)].tolist()
    for batch_size, chosen in ((1, ALL), (3, [6, 1, 0]), (2, [2])):
        found = answer(model, [prompts[index] for index in chosen], batch_size)
        for at, index in enumerate(chosen):
            assert found[at].answer_ids == reference[index].answer_ids
            assert found[at].log_probabilities == reference[index].log_probabilities


def test_prompts_of_any_length_enter_as_others_leave(monkeypatch):
    counts, step = [], Rows.run

    def count(self, module, tokens, **options):
        counts.append(len(tokens))
        return step(self, module, tokens, **options)

    model = tiny.model("llama")
    prompts = [PREFIX + own for own in OWN] * 6
    reference = answer(model, prompts, 64)
    monkeypatch.setattr(Rows, "run", count)
    found = answer(model, prompts, 8)
    assert {at: one.answer_ids for at, one in found.items()} == {
        at: one.answer_ids for at, one in reference.items()
    }
    assert len({len(one.answer_ids) for one in found.values()}) > 1
    steps = counts[2:]  # the first passes try the rows
    assert max(steps) == 8
    assert np.mean([count >= 6 for count in steps[:-9]]) == 1


def test_a_batch_is_halved_when_memory_runs_out(monkeypatch, caplog):
    model = tiny.model("llama")
    prompts = [PREFIX + own for own in OWN]
    reference, step = answer(model, prompts, 64), Rows.run

    def run_out(self, module, tokens, **options):
        if len(tokens) > 3:
            raise torch.OutOfMemoryError
        return step(self, module, tokens, **options)

    monkeypatch.setattr(Rows, "run", run_out)
    with caplog.at_level(logging.INFO):
        found = answer(model, prompts, 8)
    assert "with 8 sequences; going on with 4" in caplog.text
    assert "with 4 sequences; going on with 2" in caplog.text
    assert sorted(found) == [*ALL]
    for index in ALL:
        assert found[index].log_probabilities == reference[index].log_probabilities


def test_as_many_rows_as_possible_stay_where_they_are():
    assert settle([0, 1, 2]) == [0, 1, 2]
    assert [[0, 2, 5, 6][at] for at in settle([0, 2, 5, 6])] == [0, 5, 2, 6]
    assert [[1, 1, 1, 0][at] for at in settle([1, 1, 1, 0])] == [0, 1, 1, 1]
    assert settle([]) == []
