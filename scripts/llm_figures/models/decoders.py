"""The decoder of a causal language model and its blocks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from llm_figures.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Every class that passes through the interface looks up its attention function in this.
INTERFACE = "ALL_ATTENTION_FUNCTIONS"

# Where a decoder's blocks are, and where a decoder is in a model.
BLOCKS = ("layers", "h", "blocks")
DECODERS = ("model", "decoder", "language_model", "text_model", "base_model")


def decoder(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its language-model head: the first part that holds the blocks.

    `get_decoder` returns another part in some families (Llama 4, ModernBERT's decoder).
    """
    found = model.get_decoder()
    parts = [
        found,
        *(getattr(whole, name, None) for whole in (model, found) for name in DECODERS),
    ]
    return next((part for part in parts if _find_blocks(part) is not None), found)


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's blocks, in order.

    Raises:
        UserError: the architecture keeps them in an unknown place.
    """
    blocks = _find_blocks(decoder(model))
    if blocks is None:
        raise UserError(
            f"models of type {model.config.model_type} keep their layers in an unknown place; "
            "choose another model"
        )
    return blocks


def check_text_alone(model: PreTrainedModel) -> None:
    """Check that a model runs on two tokens, without images or sound.

    Raises:
        UserError: it does not.
    """
    import torch

    ids = torch.tensor([[0, 1]], device=model.get_input_embeddings().weight.device)
    try:
        with torch.inference_mode():
            decoder(model)(input_ids=ids, use_cache=False)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"models of type {model.config.model_type} do not run on a text alone ({reason}); "
            "choose another model"
        ) from None


def find_attentions(model: PreTrainedModel) -> dict[int, torch.nn.Module]:
    """{layer: its attention} of the blocks whose attention goes through transformers' interface.

    Other blocks of a hybrid model (linear attention, state spaces) are left out.
    """
    attentions = enumerate(map(list_attentions, decoder_layers(model)))
    return {layer: own[0] for layer, own in attentions if own}


def list_attentions(block: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules of a block whose forward pass looks up its attention in the interface."""
    return [module for module in block.modules() if INTERFACE in _names_used(module)]


def _names_used(module: torch.nn.Module) -> tuple[str, ...]:
    """Global names and attributes that a module's forward pass uses, below its decorators."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code.co_names if code else ()


def _find_blocks(part: torch.nn.Module | None) -> torch.nn.ModuleList | None:
    from torch.nn import ModuleList

    found = (getattr(part, name, None) for name in BLOCKS)
    return next((blocks for blocks in found if isinstance(blocks, ModuleList)), None)
