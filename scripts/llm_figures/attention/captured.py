"""What is captured of one layer in a forward pass."""

from dataclasses import dataclass

import numpy as np
import torch

from llm_figures.attention.maps import LayerStates
from llm_figures.attention.rope import Rotation


@dataclass
class Captured:
    """Queries and keys of one layer in one forward pass, after any intervention.

    query: [batch, heads, tokens, head_dim], float32 on the CPU.
    key: [batch, key-value heads, tokens, head_dim], likewise.
    bias: [1 or heads, tokens, tokens], likewise, or None.
    sinks: [heads] or [heads, tokens], likewise, or None.
    value_norm: [batch, value heads, tokens], likewise, L2 norms of the values; those of the first
        call where a layer calls its attention again for other values (DiffLlama).
    window, softcap, bias, sinks, rotation, model_layers: see `maps.LayerStates`.
    deviation, bound: of the weights computed from these from the model's own, and the largest that
        is accepted; see `eager_weights`.
    output_deviation: likewise of the attention's output; None unless it was compared.
    """

    query: torch.Tensor
    key: torch.Tensor
    scaling: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None
    bias: torch.Tensor | None = None
    value_norm: torch.Tensor | None = None
    rotation: Rotation | None = None
    model_layers: int | None = None
    deviation: float | None = None
    bound: float | None = None
    output_deviation: float | None = None

    def to_states(self, index: int, layer: int) -> LayerStates:
        """The states of one layer of a text, numbered from 1, without their rotation."""
        return LayerStates(
            input=index,
            layer=layer,
            query=self.query[0].numpy(),
            key=self.key[0].numpy(),
            scaling=float(self.scaling),
            window=self.window,
            softcap=self.softcap,
            bias=None if self.bias is None else self.bias.numpy(),
            model_layers=self.model_layers,
            value_norm=None if self.value_norm is None else self.value_norm[0].numpy(),
            sinks=None if self.sinks is None else self.sinks.numpy().astype(np.float64),
        )
