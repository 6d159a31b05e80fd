"""Works over many questions: greedy and sampled answers, hidden states at the named tokens."""

import json
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from works import DisagreementError, Method, Work

# How far the methods may be apart before the comparison is called off.
MOST_DIFFERING_ANSWERS = 0.01  # of all answers
LARGEST_STATE_ERROR = 1e-3  # of the layer's largest value
# Of sampled ones: among the many unlikely tokens, rounding decides which one a number chooses.
MOST_DIFFERING_SAMPLES = 0.03
LARGEST_SHARE_ERROR = 1e-4  # of P(true), from 0 to 1
# Of transformers' own batches.
PLAIN_BATCH = 16
SUMS = "long sums"  # as in made.py, which loads models


def same_answers(
    folders: dict[str, Path],
    apart: Callable[[str, str], float] = operator.ne,
    most: float = MOST_DIFFERING_ANSWERS,
) -> str:
    """How many answers differ.

    apart: how far two answers are from each other, 0 to 1; most: what it may be on average.

    Raises:
        DisagreementError: further than that.
    """
    texts = {
        method: json.loads((folder / "texts.json").read_text())
        for method, folder in folders.items()
    }
    *_, ours = texts.values()
    differing = []
    for method, theirs in list(texts.items())[:-1]:
        pairs = list(zip(ours, theirs, strict=True))
        count = sum(left != right for left, right in pairs)
        if not np.mean([apart(left, right) for left, right in pairs]) <= most:
            raise DisagreementError(
                f"{count} of {len(ours)} answers differ between {method} and ours"
            )
        differing.append(f"{count} from those of {method}")
    return f"Of {len(ours)} answers, ours differ in {' and '.join(differing)}."


def parted(left: str, right: str) -> float:
    """The share of the longer answer from the first letter on that differs."""
    longest = max(len(left), len(right))
    for place, (one, other) in enumerate(zip_longest(left, right)):
        if one != other:
            return 1 - place / longest
    return 0.0


def same_states(folders: dict[str, Path], largest: float = LARGEST_STATE_ERROR) -> str:
    states = {method: np.load(folder / "states.npy") for method, folder in folders.items()}
    *_, ours = states.values()
    errors = []
    for method, theirs in list(states.items())[:-1]:
        error = np.abs(ours - theirs).max(axis=(0, 2)) / np.abs(theirs).max(axis=(0, 2))
        if not error.max() <= largest:
            raise DisagreementError(
                f"{method} and ours differ by {error.max():.1e} of layer {int(error.argmax())}'s "
                "largest value"
            )
        errors.append(f"{error.max():.0e} from {method}")
    return (
        f"Our states differ by at most {' and '.join(errors)}, in units of the largest value in "
        f"the layer (`exact_answer_last` of {len(ours)} questions, every layer)."
    )


def same_shares(folders: dict[str, Path]) -> str:
    """How far P(true) differs.

    Raises:
        DisagreementError: by more than it may.
    """
    one, ours = (np.load(folder / "shares.npy") for folder in folders.values())
    error = np.abs(one - ours).max()
    if not error <= LARGEST_SHARE_ERROR:
        raise DisagreementError(f"P(true) differs by {error:.1e}")
    return f"P(true) of {len(ours)} answers differs by at most {error:.0e}."


def about(dataset: str, work: Work) -> Work:
    """The same work about another set of questions, see `made`."""
    options = {**work.options, "questions": 128, "dataset": dataset}
    return replace(work, name=f"{work.name}, {dataset}", options=options, memory_target=None)


STATES, GENERATION, SAMPLING, P_TRUE = (
    Work(
        "states",
        (
            Method("one question at a time, every token kept", "states_methods:loop", target=8),
            Method("plain batches, named tokens kept", "states_methods:plain_batches"),
            Method("ours", "states_methods:ours"),
        ),
        options={"questions": 544, "plain_batch": PLAIN_BATCH},
        small={"questions": 8},
        agree=same_states,
        memory_target=6,
    ),
    Work(
        "generation",
        (
            Method("one prompt at a time", "generation_methods:loop", target=6),
            Method("plain batches", "generation_methods:plain_batches"),
            Method("ours", "generation_methods:ours"),
        ),
        options={"questions": 128, "plain_batch": PLAIN_BATCH},
        small={"questions": 8},
        agree=same_answers,
    ),
    Work(
        "sampling",
        (
            Method("one sample at a time", "generation_methods:sampled_loop"),
            Method("ours", "generation_methods:sampled_ours"),
        ),
        options={"questions": 32, "samples": 5},
        small={"questions": 4, "samples": 2},
        agree=partial(same_answers, most=MOST_DIFFERING_SAMPLES),
    ),
    Work(
        "P(true)",
        (
            Method("one prompt at a time", "p_true_methods:loop"),
            Method("ours", "p_true_methods:ours"),
        ),
        options={"questions": 128},
        small={"questions": 8},
        agree=same_shares,
    ),
)
WORKS = (
    STATES,
    about(SUMS, STATES),
    GENERATION,
    *(about(dataset, GENERATION) for dataset in ("arithmetic", "elements", SUMS)),
    SAMPLING,
    P_TRUE,
    about(SUMS, P_TRUE),
)
