"""On the CPU no bit of a question's results depends on its batch, its shard or the threads."""

import numpy as np
import pytest
import torch

import tiny
from llm_figures.inference.batching import batch_by_key, pad_batch, padded_length, round_up
from llm_figures.inference.generation import generate
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.responses import compute_log_probabilities
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.p_true import compute_p_true
from llm_figures.probe.schema import layer_column

PROMPTS = [
    f"Q: What is the capital of France?\nA: Paris.\nQ: What is {n} {'and ' * (n % 5)}{n + 1}?\nA:"
    for n in range(41)
]
FAMILIES = ["llama", "gemma2", "neox", "gpt2", "qwen3", "llama in bfloat16"]
# Each expert gets the rows that are routed to it, whose number no batch can fix: their states are
# equal within this share of the largest.
EXPERTS_BOUND = 1e-5
# batch size, questions of this shard, threads
SETTINGS = [(1, slice(None), 1), (7, slice(None), 2), (64, slice(1, None, 3), 1), (3, [17], 2)]


@pytest.fixture(params=FAMILIES)
def model(request):
    family, _, dtype = request.param.partition(" in ")
    yield tiny.model(family).to(getattr(torch, dtype or "float32"))
    torch.set_num_threads(1)


@pytest.fixture
def prompts():
    return [tiny.tokenizer()(prompt)["input_ids"] for prompt in PROMPTS]


def chosen(questions):
    return list(np.arange(len(PROMPTS))[questions])


def test_batches_are_padded_to_multiples_of_four_on_the_cpu_alone():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [round_up(n) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]
    assert [padded_length(n, 20) for n in (1, 8, 9, 17, 20)] == [8, 8, 16, 20, 20]
    assert padded_length(17, None) == 24
    assert batch_by_key([8, 16, 8, 8], 2) == [[0, 2], [3], [1]]
    assert pad_batch([3, 5], cpu) == [3, 5, 5, 5]
    assert pad_batch([3, 5, 7, 9], cpu) == [3, 5, 7, 9]
    assert pad_batch([3, 5], gpu) == [3, 5]
    assert len(shared_prefix([[1] * 20, [1] * 21])) == 16


def test_answers_and_their_log_probabilities(model, prompts):
    def answers(batch_size, questions, threads):
        torch.set_num_threads(threads)
        indices = chosen(questions)
        batches = generate(
            model,
            tiny.tokenizer(),
            [prompts[at] for at in indices],
            stop=list("\neaist ?0123"),  # some stop early: rows leave a batch
            max_new_tokens=10,
            batch_size=batch_size,
            prefix=shared_prefix(prompts),
        )
        return {indices[answer.index]: answer for batch in batches for answer in batch}

    reference = answers(64, slice(None), 1)
    assert len(reference) == len(PROMPTS)
    assert len({len(answer.answer_ids) for answer in reference.values()}) > 1
    for setting in SETTINGS:
        for at, answer in answers(*setting).items():
            assert answer.answer_ids == reference[at].answer_ids
            assert answer.log_probabilities == reference[at].log_probabilities


def states(model, prompts, batch_size, questions, threads):
    """{(question, token): states [layers, hidden]}"""
    torch.set_num_threads(threads)
    indices = chosen(questions)
    batches = extract_hidden_states(
        model,
        indices,
        [prompts[at] for at in indices],
        [[5 + at] * (at % 7 + 1) for at in indices],
        [{"last_q": len(prompts[at]) - 1, "-1": len(prompts[at]) + at % 7} for at in indices],
        batch_size=batch_size,
        prefix=shared_prefix(prompts),
    )
    return {
        (key, token): np.array([columns[layer_column(layer)][row] for layer in range(4)])
        for columns in batches
        for row, (key, token) in enumerate(
            zip(columns["question_id"], columns["token"], strict=True)
        )
    }


def test_hidden_states(model, prompts):
    reference = states(model, prompts, 64, slice(None), 1)
    assert len(reference) == 2 * len(PROMPTS)
    for setting in SETTINGS:
        for key, found in states(model, prompts, *setting).items():
            np.testing.assert_array_equal(found, reference[key])


def test_hidden_states_of_a_mixture_of_experts_differ_within_a_bound(prompts):
    model = tiny.model("gpt_oss")
    reference = states(model, prompts, 64, slice(None), 1)
    try:
        for setting in SETTINGS:
            for key, found in states(model, prompts, *setting).items():
                bound = EXPERTS_BOUND * np.abs(reference[key]).max()
                np.testing.assert_allclose(found, reference[key], rtol=0, atol=bound)
    finally:
        torch.set_num_threads(1)


def test_p_true(model, prompts):
    def shares(batch_size, questions, threads):
        torch.set_num_threads(threads)
        indices = chosen(questions)
        batches = compute_p_true(
            model,
            [prompts[at] for at in indices],
            5,
            6,
            batch_size=batch_size,
            prefix=shared_prefix(prompts),
        )
        return {
            indices[at]: share
            for batch, found in batches
            for at, share in zip(batch, found, strict=True)
        }

    reference = shares(64, slice(None), 1)
    assert len(set(reference.values())) > 10
    for setting in SETTINGS:
        assert shares(*setting).items() <= reference.items()


def test_log_probabilities_of_given_answers(model, prompts):
    def logs(batch_size, questions, threads):
        torch.set_num_threads(threads)
        indices = chosen(questions)
        batches = compute_log_probabilities(
            model,
            [prompts[at] for at in indices],
            [[5 + at] * (at % 7 * 9 + 1) for at in indices],  # some are of several pieces
            batch_size=batch_size,
            prefix=shared_prefix(prompts),
        )
        return {
            indices[at]: row
            for batch, found in batches
            for at, row in zip(batch, found, strict=True)
        }

    reference = logs(64, slice(None), 1)
    assert [len(reference[at]) for at in range(8)] == [1, 10, 19, 28, 37, 46, 55, 1]
    for setting in SETTINGS:
        assert logs(*setting).items() <= reference.items()


def test_equal_prompts_have_equal_scores_and_unequal_ones_share_a_batch():
    """Whatever stands beside them in their batch."""
    model, random = tiny.model(), np.random.default_rng(0)
    lengths = [9, 10, 10, 11, 12, 12, 13]
    prompts = [random.integers(5, 300, length).tolist() for length in lengths]
    answers = [[7] * (at % 3 + 1) for at in range(len(prompts))]
    repeated = [*prompts, *prompts[::-1], *prompts[:1]]
    answered = [*answers, *answers[::-1], *answers[:1]]
    batches = list(compute_p_true(model, repeated, 5, 6, batch_size=4, prefix=[]))
    assert any(len({len(repeated[at]) for at in batch}) > 1 for batch, _ in batches)
    logs = list(compute_log_probabilities(model, repeated, answered, batch_size=4, prefix=[]))
    assert any(len({len(repeated[at]) for at in batch}) > 1 for batch, _ in logs)
    for found in (batches, logs):
        of = {at: one for batch, row in found for at, one in zip(batch, row, strict=True)}
        assert sorted(of) == list(range(len(repeated)))
        for at, prompt in enumerate(repeated):
            assert of[at] == of[prompts.index(prompt)]
