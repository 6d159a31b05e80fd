"""Rotary position embedding as numbers: what it does to every position and feature, and back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rotation:
    """One layer's rotary embedding of one text (Su et al. 2021, eq. 34), whatever its layout.

    It is linear and mixes a feature with at most one other, its partner:
    rotated[t, i] = own[t, i] * state[t, i] + other[t, i] * state[t, partner[i]]. Scaled cosines
    and sines (YaRN) are part of the coefficients.

    own, other: [tokens, head_dim].
    partner: [head_dim], the index of each feature's partner; partners have each other. A feature
        that is not rotated is its own partner, with other 0.
    """

    own: np.ndarray
    other: np.ndarray
    partner: np.ndarray

    def apply(self, states: np.ndarray) -> np.ndarray:
        """Rotate `states` [..., tokens, head_dim], as the model does to queries and keys."""
        return self.own * states + self.other * states[..., self.partner]

    def undo(self, states: np.ndarray) -> np.ndarray:
        """The states of which `states` [..., tokens, head_dim] are the rotated ones.

        Solves each feature and its partner's two equations for the two.
        """
        own, other = self.own.astype(np.float64), self.other.astype(np.float64)
        determinant = own * own[:, self.partner] - other * other[:, self.partner]
        return (own[:, self.partner] * states - other * states[..., self.partner]) / determinant
