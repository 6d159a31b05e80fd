"""Check from config.json alone, before any weights are read, that a model is supported.

A model of the config's class is built without memory (on torch's meta device). Every block must
hold at most one causal attention that calls transformers' attention interface, where states are
captured and intervened on (see `attention_hook`), and one of them must. Other blocks of a hybrid
model have no attention maps. No list of families is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llm_figures.core.errors import UserError
from llm_figures.models.auto_classes import find_auto_class
from llm_figures.models.decoders import decoder_layers, list_attentions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ANOTHER = "choose another model"


def check_folder_architecture(folder: Path, where: str, trust_remote_code: bool = False) -> None:
    """Check a transformers folder by its config.json (see `check_architecture`).

    Raises:
        UserError: as `check_architecture`; a config.json without a model type, with a type unknown
            to transformers, or one that needs the repository's own code without
            `trust_remote_code`. Begins with `where`.
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
    except Exception as error:  # families validate with exceptions of any class
        raise UserError(f"{where}: config.json cannot be used: {_reason(error)}") from None
    check_architecture(config, where, trust_remote_code)


def check_architecture(
    config: PreTrainedConfig, where: str, trust_remote_code: bool = False
) -> None:
    """Check that attention can be captured and intervened on, in one block of a model at least.

    Raises:
        UserError: an encoder, an encoder-decoder, no causal language model, attention that bypasses
            the interface; begins with `where`, names the type.
    """
    import torch
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    these = f"{where}: models of type {config.model_type}"
    if config.is_encoder_decoder:
        raise UserError(
            f"{these} are encoder-decoders; only causal decoders are supported; {ANOTHER}"
        )
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise UserError(
            f"{these} are encoders, in which every token attends to all others; only causal "
            f"decoders are supported; {ANOTHER}"
        )
    try:
        with torch.device("meta"):  # sizes without weights
            model = find_auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
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
    """Why a model is not supported, as the rest of a sentence; "" if it is."""
    try:
        layers = decoder_layers(model)
    except UserError:
        return "keep their layers in an unknown place"
    attentions = [list_attentions(layer) for layer in layers]
    bypass = (
        "do not pass attention through transformers' attention interface, so it cannot be captured"
    )
    if not any(attentions):
        return bypass
    for layer, own in enumerate(attentions):
        if len(own) > 1:
            return f"have {len(own)} attentions in layer {layer}; only one can be captured"
        if not own:
            continue
        if getattr(own[0], "layer_idx", None) != layer:
            return f"do not number the attention of layer {layer}, so it cannot be identified"
        if getattr(own[0], "is_causal", None) is False:
            return "let every token attend to all others; only causal decoders are supported"
    return ""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
