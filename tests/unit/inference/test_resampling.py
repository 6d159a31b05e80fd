"""Sampled answers against a plain loop, and the same in any batch, shard and number of threads."""

import numpy as np
import pytest
import torch

import tiny
from llm_figures.inference.generation import NO_STOP
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.resampling import choose_by_draws, draw_numbers, sample_answers
from llm_figures.inference.rows import Rows

PROMPTS = [
    f"Q: What is the capital of France?\nA: Paris.\nQ: What is {n} {'and ' * (n % 3)}{n + 1}?\nA:"
    for n in range(9)
]
COUNT, TOKENS, STOP = 6, 8, list("\nea st?0")


@pytest.fixture
def prompts():
    return [tiny.tokenizer()(prompt)["input_ids"] for prompt in PROMPTS]


def sample(model, prompts, questions=slice(None), batch_size=64, **options):
    indices = list(range(len(prompts)))[questions]
    options = {"count": COUNT, "temperature": 1.0, "seed": 3, "stop": STOP} | options
    batches = sample_answers(
        model,
        tiny.tokenizer(),
        [prompts[at] for at in indices],
        max_new_tokens=TOKENS,
        batch_size=batch_size,
        keys=[10 + at for at in indices],
        prefix=shared_prefix(prompts),
        **options,
    )
    found = [
        (indices[one.answer.index], one.number, one.answer) for part in batches for one in part
    ]
    assert len({key[:2] for key in found}) == len(found) == len(indices) * options["count"]
    return {(at, number): answer for at, number, answer in found}


@torch.inference_mode()
def sample_plainly(model, prompt, key, number, temperature, seed):
    """One sample after the other over whole sequences, in double precision."""
    tokenizer, ids, logs = tiny.tokenizer(), list(prompt), []
    for draw in np.random.default_rng([seed, key, number]).random(TOKENS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        total = torch.softmax(logits / temperature, 0).cumsum(0)
        token = int((total <= draw * total[-1]).sum())
        ids.append(token)
        logs.append(float(torch.log_softmax(logits, 0)[token]))
        text = tokenizer.decode(ids[len(prompt) :])
        if token == tokenizer.eos_token_id or any(string in text.lstrip() for string in STOP):
            break
    return ids[len(prompt) :], logs


@pytest.mark.parametrize("temperature", [0.6, 1.3])
def test_a_plain_loop_with_the_same_random_numbers_gives_the_same_tokens(prompts, temperature):
    model = tiny.model("llama")
    found = sample(model, prompts, temperature=temperature)
    lengths = set()
    for (at, number), answer in found.items():
        ids, logs = sample_plainly(model, prompts[at], 10 + at, number, temperature, 3)
        kept = len(answer.answer_ids)
        lengths.add(kept)
        assert answer.answer_ids == ids[:kept]
        assert len(ids) - kept <= (not answer.cut)  # the token that holds the stop
        assert answer.stop_id == (ids[kept] if kept < len(ids) else NO_STOP)
        np.testing.assert_allclose(answer.log_probabilities, logs[:kept], atol=1e-4)
    assert len(lengths) > 2


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_same_bits_in_any_batch_shard_and_number_of_samples(prompts, family):
    model = tiny.model(family)
    reference = sample(model, prompts)
    assert len({tuple(answer.answer_ids) for answer in reference.values()}) > COUNT
    try:
        for batch_size, questions, count, threads in (
            (1, slice(None), COUNT, 1),
            (5, slice(1, None, 2), COUNT, 2),
            (64, slice(4, 5), 3, 1),
        ):
            torch.set_num_threads(threads)
            again = sample(model, prompts, questions, batch_size, count=count)
            for key, answer in again.items():
                assert answer.answer_ids == reference[key].answer_ids
                assert answer.log_probabilities == reference[key].log_probabilities
    finally:
        torch.set_num_threads(1)


def test_samples_that_agree_are_computed_once(prompts, monkeypatch):
    model, rows, run = tiny.model("llama"), [], Rows.run

    def count_rows(self, module, tokens, **options):
        rows.append(len(tokens))
        return run(self, module, tokens, **options)

    monkeypatch.setattr(Rows, "run", count_rows)
    # so cold that all samples of a question are the greedy answer
    sample(model, prompts, slice(0, 1), temperature=0.01)
    assert rows[2:] == [1] * len(rows[2:])  # the first passes try the rows
    assert len(rows) > 3


def test_a_small_batch_wastes_little(prompts, monkeypatch):
    """Samples for which there is no room are begun again, which must stay the exception."""
    model, run, rows = tiny.model("llama"), Rows.run, []

    def count_rows(self, module, tokens, **options):
        rows.append(len(tokens))
        return run(self, module, tokens, **options)

    monkeypatch.setattr(Rows, "run", count_rows)
    work = []
    same_length = [prompts[0]] * 12
    for batch_size in (1000, 16):
        rows.clear()
        sample(model, same_length, batch_size=batch_size, count=10)
        work.append(sum(rows))
        assert max(rows) <= max(batch_size, 10)
    assert work[1] < 2 * work[0]


def test_random_numbers_depend_on_seed_question_and_sample_alone():
    first = draw_numbers(0, 5, 2, 4)
    assert (first == draw_numbers(0, 5, 2, 9)[:4]).all()
    for other in ((1, 5, 2), (0, 6, 2), (0, 5, 3)):
        assert (first != draw_numbers(*other, 4)).all()


def test_frequencies_are_the_probabilities():
    logits = torch.tensor([[0.0, 1.0, -1.0, float("-inf")]])
    draws = np.random.default_rng(0).random((1, 40_000))
    for temperature in (0.5, 2.0):
        (chosen,) = choose_by_draws(logits, temperature, draws)
        expected = torch.softmax(logits[0] / temperature, 0).numpy()
        np.testing.assert_allclose(np.bincount(chosen, minlength=4) / 40_000, expected, atol=0.01)
    assert choose_by_draws(logits, 1.0, [[0.0, 1 - 1e-16]]) == [[0, 2]]
