"""CUDA out of memory: smaller batches, the same results, nothing lost or done twice."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.job import job
from llm_figures.inference.batching import with_oom_backoff
from llm_figures.inference.generation import generate
from llm_figures.inference.options import Sampling
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.p_true import compute_p_true

QUESTIONS = [f"What is {n} and {n % 7}?" for n in range(10, 50)]
PROMPTS = tiny.tokenizer()([f"Q: {question}\nA:" for question in QUESTIONS])["input_ids"]


def crowded(most, model=None):
    """The tiny model on a device with room for passes of at most `most` sequences."""
    model = model or tiny.model()

    def check(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.get_decoder().register_forward_pre_hook(check, with_kwargs=True)
    return model


def generate_answers(model, batch_size, **sampling):
    batches = generate(
        model,
        tiny.tokenizer(),
        PROMPTS,
        stop=["\n"],
        max_new_tokens=6,
        batch_size=batch_size,
        sampling=Sampling(**sampling),
    )
    return [answer for batch in batches for answer in batch]


def states(model, batch_size):
    answers = [[5, 6, 7 + index % 3] for index in range(len(PROMPTS))]
    positions = [{"last_q": len(ids) - 1, "-1": len(ids) + 2} for ids in PROMPTS]
    numbers = range(len(PROMPTS))
    batches = list(
        extract_hidden_states(model, numbers, PROMPTS, answers, positions, batch_size=batch_size)
    )
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


@pytest.fixture
def logged(caplog, monkeypatch):
    """Captures what is logged."""
    monkeypatch.setattr(logging.getLogger("llm_figures"), "propagate", True)
    caplog.set_level(logging.INFO, "llm_figures")
    return caplog


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}])
def test_answers_are_those_of_the_smaller_batch(sampling, logged):
    answers = generate_answers(crowded(4), 16, **sampling)
    assert answers == generate_answers(tiny.model(), 4, **sampling)
    assert sorted(answer.index for answer in answers) == list(range(len(PROMPTS)))
    assert "CUDA out of memory with 16 sequences; going on with 8" in logged.text
    assert logged.text.count("CUDA out of memory") == 2  # 16, 8; never tried again


def test_states_are_those_of_the_smaller_batch(logged):
    actual, expected = states(crowded(4), 16), states(tiny.model(), 4)
    assert set(actual) == set(expected)
    for column in expected:
        np.testing.assert_array_equal(actual[column], expected[column])
    assert "going on with 4" in logged.text


def test_p_true_is_that_of_the_smaller_batch():
    def shares(model, batch_size):
        return list(compute_p_true(model, PROMPTS, 5, 6, batch_size=batch_size))

    assert shares(crowded(4), 16) == shares(tiny.model(), 4)


def test_nothing_is_lost_or_done_twice():
    done, tried = [], []

    def compute(batch):
        tried.append(len(batch))
        if len(batch) > (3 if len(done) < 8 else 2):
            raise torch.OutOfMemoryError
        done.extend(batch)
        return batch

    batches = [list(range(at, at + 8)) for at in range(0, 40, 8)] + [[40, 41, 42]]
    results = [item for batch, _ in with_oom_backoff(batches, compute) for item in batch]
    assert results == done == list(range(43))
    assert tried[:3] == [8, 4, 2]
    assert set(tried[3:]) == {2, 1}


def full(batch):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_one_sequence_too_much_is_one_line():
    with pytest.raises(UserError, match=r"^CUDA out of memory with one sequence; .*device_map"):
        list(with_oom_backoff([[1, 2, 3]], full))


@pytest.fixture
def restored_log():
    """A job's process ends with it, and its handlers with the process."""
    log, root = logging.getLogger("llm_figures"), logging.getLogger()
    before = log.handlers, log.level, log.propagate
    of_root = [*root.handlers]
    yield
    logging.captureWarnings(False)
    for handler in {*log.handlers} - {*before[0]}:
        handler.close()
        if handler not in of_root:
            root.removeHandler(handler)
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


def test_out_of_memory_elsewhere_ends_a_job_in_one_line(tmp_path, capsys, restored_log):
    files = {"log": [tmp_path / "log"], "input": [], "output": [], "params": []}
    snakemake = SimpleNamespace(rule="measure_modules", threads=1, **files)
    with pytest.raises(SystemExit), job(snakemake):
        full([])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "measure_modules: error: CUDA out of memory; spread the model" in line
    assert "Traceback" in (tmp_path / "log").read_text()


def test_other_errors_are_not_swallowed():
    def compute(batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(with_oom_backoff([[1, 2]], compute))
