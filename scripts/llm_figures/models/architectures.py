"""Which models can be supported, decided from config.json alone, before any weights are read.

A model of the config's class is built without memory (on torch's meta device) and looked at: every
block must hold one causal attention that calls transformers' attention interface, where the hook of
`attention_hook` acts. Nothing is listed by family, so a new one needs no entry here.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

from llm_figures.core.errors import UserError
from llm_figures.models.decoders import decoder_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

# What an attention function is looked up in by every class that passes through the interface.
INTERFACE = "ALL_ATTENTION_FUNCTIONS"
ANOTHER = "choose another model"


def check_folder_architecture(folder: Path, where: str, trust_remote_code: bool = False) -> None:
    """Check a transformers folder by its config.json (see `check_architecture`).

    Raises:
        UserError: as `check_architecture`; a config.json that says nothing of a model, one that
            asks for code of its own without `trust_remote_code`, or for a type that transformers
            does not know. Begins with `where`.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, __version__

    try:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = written.get("model_type")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{where}: {folder / 'config.json'} is not JSON: {error}") from None
    own_code = bool(written.get("auto_map"))
    if kind is None and not (own_code and trust_remote_code):
        raise UserError(
            f"{where}: config.json names no model_type; it must be that of a transformers model"
        )
    if kind not in CONFIG_MAPPING and not (own_code and trust_remote_code):
        if own_code:
            raise UserError(
                f"{where}: models of type {kind} run code of the repository's own (auto_map in "
                f"config.json), which is refused; {ANOTHER}, or set trust_remote_code: true for a "
                "source you trust"
            )
        raise UserError(
            f"{where}: models of type {kind} are unknown to transformers {__version__}; {ANOTHER}"
        )
    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # validators of each family raise what they like
        raise UserError(f"{where}: config.json cannot be used: {_reason(error)}") from None
    check_architecture(config, where, trust_remote_code)


def check_architecture(
    config: PreTrainedConfig, where: str, trust_remote_code: bool = False
) -> None:
    """Check that attention can be captured and altered in every block of a model.

    Raises:
        UserError: an encoder, an encoder with a decoder, no causal language model, attention that
            bypasses the interface, blocks without attention; begins with `where`, names the type.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    these = f"{where}: models of type {config.model_type}"
    if config.is_encoder_decoder:
        raise UserError(
            f"{these} are encoder and decoder; the figures are of causal decoders alone; {ANOTHER}"
        )
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise UserError(
            f"{these} are encoders: every token sees all others; the figures are of causal "
            f"decoders; {ANOTHER}"
        )
    try:
        with torch.device("meta"):  # sizes without weights
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise UserError(f"{these}: {_reason(error)}") from None
        raise UserError(
            f"{these} are no causal language models to transformers; {ANOTHER}"
        ) from None
    except Exception as error:
        raise UserError(
            f"{these}: no model can be built from config.json: {_reason(error)}"
        ) from None
    if problem := _unsupported(model):
        raise UserError(f"{these} {problem}; {ANOTHER}")


def _unsupported(model: PreTrainedModel) -> str:
    """What keeps the model from being captured, as the rest of a sentence; "" if nothing does."""
    try:
        layers = decoder_layers(model)
    except UserError:
        return "keep their layers in an unknown place"
    found = [_attentions(layer) for layer in layers]
    bypass = (
        "do not pass attention through transformers' attention interface, so it cannot be captured"
    )
    if not any(found) or not type(model)._can_set_attn_implementation():
        return bypass
    without = [layer for layer, attentions in enumerate(found) if not attentions]
    if without:
        return (
            f"have no attention, or none that can be captured, in {len(without)} of their "
            f"{len(layers)} layers, for example layer {without[0]}"
        )
    for layer, attentions in enumerate(found):
        if len(attentions) > 1:
            return f"have {len(attentions)} attentions in layer {layer}; one can be captured"
        if getattr(attentions[0], "layer_idx", None) != layer:
            return f"do not number the attention of layer {layer}, so it cannot be told from others"
        if getattr(attentions[0], "is_causal", None) is False:
            return "let every token see all others; the figures are of causal decoders"
    return ""


def _attentions(layer: torch.nn.Module) -> list[torch.nn.Module]:
    """The parts of a block whose forward pass looks its attention function up in the interface."""
    return [part for part in layer.modules() if INTERFACE in _names(part)]


def _names(part: torch.nn.Module) -> tuple[str, ...]:
    """Global names and attributes that a module's forward pass uses, below its decorators."""
    code = getattr(inspect.unwrap(type(part).forward), "__code__", None)
    return code.co_names if code else ()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
