"""Rotary position embedding as coefficients of every position and feature, and its inverse."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rotation:
    """One layer's rotary embedding of one text (Su et al. 2021, eq. 34), in any layout.

    Rotation is linear and mixes each feature with at most one other:
    rotated[t, i] = cos[t, i] * state[t, i] + sin[t, i] * state[t, pair_index[i]].

    cos, sin: [tokens, head_dim], including any scaling (YaRN). sin includes the sign that the
        layout gives it.
    pair_index: [head_dim], the feature that each feature is paired with. A feature that is not
        rotated is paired with itself, with cos 1 and sin 0.
    """

    cos: np.ndarray
    sin: np.ndarray
    pair_index: np.ndarray

    @classmethod
    def make_identity(cls, tokens: int, features: int) -> "Rotation":
        """The rotation of a layer without rotary embedding."""
        ones = np.ones((tokens, features), np.float32)
        return cls(ones, np.zeros_like(ones), np.arange(features))

    def apply(self, states: np.ndarray) -> np.ndarray:
        """Rotate `states` [..., tokens, head_dim] as the model rotates queries and keys."""
        return self.cos * states + self.sin * states[..., self.pair_index]

    def undo(self, states: np.ndarray) -> np.ndarray:
        """The states before rotation, from rotated `states` [..., tokens, head_dim].

        Solves the two equations of each pair of features.
        """
        cos, sin = self.cos.astype(np.float64), self.sin.astype(np.float64)
        pair = self.pair_index
        determinant = cos * cos[:, pair] - sin * sin[:, pair]
        return (cos[:, pair] * states - sin * states[..., pair]) / determinant
