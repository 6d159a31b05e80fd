"""Invented answers, and states of three layers with a signal at the last token."""

import numpy as np
import pandas as pd

COUNT, HIDDEN = 200, 12
TOKENS = ["last_q", "-1"]
KEYS = pd.DataFrame(
    {"question_id": np.tile(np.arange(COUNT), 2), "token": np.repeat(TOKENS, COUNT)}
)


def make_states(groups=("a", "b"), strength=0.7, seed=0):
    """(answers, states of each layer), with a signal at the last token of layers 1 and 2."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(COUNT) % 2)
    answers = pd.DataFrame(
        {
            "question_id": np.arange(COUNT),
            "correct": labels == 0,
            "hold_out": False,
            "split_group": np.arange(COUNT),
            "group": np.array(groups)[np.arange(COUNT) * len(groups) // COUNT],
            "answer_log_probability": random.normal(size=COUNT) - labels,
        }
    )
    layers = [random.normal(size=(2 * COUNT, HIDDEN)).astype(np.float32) for _ in range(3)]
    for states in layers[1:]:
        states[COUNT:, 0] += strength * labels
    return answers, layers
