"""Rotary position embedding as numbers: what it does to every position and feature, and back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rotation:
    """One layer's rotary embedding of one text (Su et al. 2021, eq. 34), whatever its layout.

    It is linear and mixes a feature with at most one other, its pair:
    rotated[t, i] = cos[t, i] * state[t, i] + sin[t, i] * state[t, pair_index[i]]. Scaled cosines
    and sines (YaRN) are part of the coefficients.

    cos, sin: [tokens, head_dim]; sin has the sign of its place in the layout.
    pair_index: [head_dim], the index of the feature that each is paired with. A feature that is not
        rotated is paired with itself, with sin 0.
    """

    cos: np.ndarray
    sin: np.ndarray
    pair_index: np.ndarray

    def apply(self, states: np.ndarray) -> np.ndarray:
        """Rotate `states` [..., tokens, head_dim], as the model does to queries and keys."""
        return self.cos * states + self.sin * states[..., self.pair_index]

    def undo(self, states: np.ndarray) -> np.ndarray:
        """The states of which `states` [..., tokens, head_dim] are the rotated ones.

        Solves the two equations of each pair of features.
        """
        cos, sin = self.cos.astype(np.float64), self.sin.astype(np.float64)
        pair = self.pair_index
        determinant = cos * cos[:, pair] - sin * sin[:, pair]
        return (cos[:, pair] * states - sin * states[..., pair]) / determinant
