"""The model info `model.json`, and what else is known of a model without loading it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.models.safetensors_files import read_header, read_index, weight_files

# Settings of families whose layers keep a mask or bias of their own for every text, instead of a
# causal one with or without a window, and whether every head has one.
MASKS = {
    "rel_extent": True,  # Inkling
    "keep_window_size": True,  # Doge
    "index_block_size": True,  # MiniMax-M3
    "sparse_attention_config": True,  # likewise, as its config.json writes it
    "index_topk": False,  # DeepSeek-V3.2, GLM-5 and others
    "indexer_n_heads": False,  # Qwen4
    "attention_chunk_size": False,  # Llama 4
}


def read_model_info(path: str | Path) -> dict:
    """Read what `sources.prepare_model` returned: folder, shape, source, weights' sha256.

    Raises:
        UserError: the file is missing, empty or damaged.
    """
    try:
        model_info = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(model_info, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run again") from None
    return model_info


def drop_shape(entry: Mapping) -> dict:
    """A model's entry, and that of its base, without the shape, on which only estimates depend."""
    rest = {key: value for key, value in entry.items() if key != "shape"}
    if "base_entry" in rest:
        rest["base_entry"] = drop_shape(rest["base_entry"])
    return rest


def shape_of(config: dict) -> dict:
    """A model's sizes from its config.json, under one name for all families; None if unknown.

    Of sizes that differ by layer, the largest.

    Keys: layers, heads, hidden_size, key_value_heads, head_dim, intermediate_size (of one expert),
    experts, vocabulary, tied (the output embeddings are the input's), dtype (the checkpoint's),
    mask_heads (heads of a layer with a mask of their own for every text; 1 if they share it, or 0).
    """
    names: dict[str, tuple[str, ...]] = {
        "layers": ("num_hidden_layers", "n_layer"),
        "heads": ("num_attention_heads", "n_head"),
        "hidden_size": ("hidden_size", "n_embd"),
        "key_value_heads": ("num_key_value_heads", "num_attention_heads", "n_head"),
        "head_dim": ("head_dim",),
        "intermediate_size": ("moe_intermediate_size", "intermediate_size", "n_inner"),
        "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
        "vocabulary": ("vocab_size",),
        "tied": ("tie_word_embeddings",),
        "dtype": ("dtype", "torch_dtype"),
    }
    shape = {
        what: next((config[key] for key in keys if config.get(key) is not None), None)
        for what, keys in names.items()
    }
    for what, value in shape.items():
        if isinstance(value, list) and value:  # one for each layer
            shape[what] = max(value)
    if shape["head_dim"] is None and shape["heads"] and shape["hidden_size"]:
        shape["head_dim"] = shape["hidden_size"] // shape["heads"]
    own = [each for key, each in MASKS.items() if config.get(key)]
    shape["mask_heads"] = (shape["heads"] or 1) if any(own) else len(own[:1])
    return shape


def text_part(config: Mapping) -> Mapping:
    """The part of a config.json on the text decoder: all of it, unless the model sees or hears."""
    for key in ("text_config", "thinker_config", "language_config", "llm_config"):
        if isinstance(inner := config.get(key), Mapping):
            of_all = {key: config[key] for key in ("dtype", "torch_dtype") if config.get(key)}
            return {**of_all, **text_part(inner)}
    return config


def count_parameters(folder: Path) -> int | None:
    """Count the parameters in the headers of a folder's safetensors files; None without files."""
    where = str(folder)
    try:
        files = weight_files(folder, read_index(folder, where))
        headers = [read_header(file, where) for file in files]
    except UserError:
        return None  # damaged, which the job that loads the weights reports
    return sum(math.prod(tensor.shape) for header in headers for tensor in header.values()) or None
