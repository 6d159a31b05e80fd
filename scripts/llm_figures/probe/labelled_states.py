"""Hidden states of a layer and token with their labels, for probes of one's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of a layer and token, as the pipeline's own probe gets them.

    `X, y, groups = states` unpacks the first three. Questions are in the order of their ids.

    X: [questions, hidden], float32, not standardised.
    y: [questions], 1 for a wrong answer, which is what the probe detects, and 0 for a right one.
    groups: [questions], the name of the question's group; "" without one.
    question_ids: [questions], as in the table "answers".
    splits: (train, test) of every fold of the pipeline, positions in X; the argument `cv` of
        scikit-learn's `cross_val_score`.
    model, weights: the model's name, and {file: SHA-256} of its weights, as in its model.json.
    """

    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    question_ids: np.ndarray = field(repr=False)
    splits: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    layer: int
    token: str
    site: str
    model: str
    weights: Mapping[str, str] | None = field(repr=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.X, self.y, self.groups))
