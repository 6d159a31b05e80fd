"""The decoder of a causal language model and its blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_figures.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def decoder(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its language-model head."""
    return model.get_decoder()


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's blocks, in order.

    Raises:
        UserError: the architecture keeps them in an unknown place.
    """
    from torch.nn import ModuleList

    inner = decoder(model)
    for name in ("layers", "h", "blocks"):
        if isinstance(layers := getattr(inner, name, None), ModuleList):
            return layers
    raise UserError(
        f"models of type {model.config.model_type} keep their layers in an unknown place; "
        "choose another model"
    )
