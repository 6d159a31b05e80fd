"""What is known of a model without loading it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.models.safetensors_files import read_header, read_index, weight_files


def read_model_info(path: str | Path) -> dict:
    """What `prepare_model` wrote of a model: its folder, shape, source and the weights' sha256.

    Raises:
        UserError: the model info is missing, empty or damaged.
    """
    try:
        model_info = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(model_info, dict):
            raise ValueError("no object in it")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run again") from None
    return model_info


def stated(entry: Mapping) -> dict:
    """A model's entry without its shape, which is for estimates and no part of what is made."""
    kept = {key: value for key, value in entry.items() if key != "shape"}
    if "base_entry" in kept:
        kept["base_entry"] = stated(kept["base_entry"])
    return kept


def shape_of(config: dict) -> dict:
    """A model's sizes from its config.json, whatever the family calls them; None where unknown.

    layers, heads, hidden_size, key_value_heads, head_dim, intermediate_size (of one expert),
    experts, vocabulary, tied (input and output embeddings are one), dtype of the checkpoint.
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
    if shape["head_dim"] is None and shape["heads"] and shape["hidden_size"]:
        shape["head_dim"] = shape["hidden_size"] // shape["heads"]
    return shape


def count_parameters(folder: Path) -> int | None:
    """Parameters in a folder's safetensors files, from their headers; None without such files."""
    where = str(folder)
    try:
        files = weight_files(folder, read_index(folder, where))
        headers = [read_header(file, where) for file in files]
    except UserError:
        return None  # damaged: the job that loads the weights says so
    return sum(math.prod(tensor.shape) for header in headers for tensor in header.values()) or None


def check_folder(folder: Path, where: str) -> None:
    """A folder that looks like a transformers model.

    Raises:
        UserError: the folder or its config.json is missing; begins with `where`.
    """
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder")
    if not (folder / "config.json").is_file():
        ggufs = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"; for its GGUF weights set file: {ggufs[0]}" if ggufs else ""
        raise UserError(
            f"{where}: no config.json there; it must be a transformers model folder{hint}"
        )
