"""Find a model's size before its download: in an earlier run, its folder or its entry."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_figures.core.errors import UserError
from llm_figures.models.gguf import find_gguf
from llm_figures.models.gguf_header import check_gguf_header, sizes_of
from llm_figures.models.model_info import count_parameters, drop_shape, shape_of, text_part

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Assumed if nothing is known: a model of 13 B parameters.
UNKNOWN = {
    "layers": 40,
    "hidden_size": 5120,
    "heads": 40,
    "intermediate_size": 13824,
    "vocabulary": 152064,
    "dtype": "bfloat16",
}
ASSUMED = "assumed, as no size is known"


@dataclass(frozen=True)
class ModelSize:
    """A model's sizes, named as in its config.json.

    mask_heads: heads of a layer that keep a mask of their own for every text. dtype: of the
    checkpoint. source: of the weights; "gguf" if they are converted. origin: how the
    sizes are known, in words. training: the entry of a model that is fine-tuned here.
    """

    parameters: int
    layers: int
    hidden_size: int
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    dtype: str
    source: str
    origin: str
    training: Mapping | None = None
    mask_heads: int = 0

    @property
    def checkpoint_bytes(self) -> int:
        return self.parameters * BYTES[self.dtype]

    @property
    def projection_outputs(self) -> int:
        """Outputs of the seven projections of a block."""
        attention = self.head_dim * (self.heads + 2 * self.key_value_heads) + self.hidden_size
        return attention + 2 * self.intermediate_size + self.hidden_size


def find_model_size(name: str, entry: Mapping, results: Path = Path("results")) -> ModelSize:
    """The size of a model.

    entry: of models.yaml. results: where an earlier run may have left the model's model.json.
    """
    known, origin = _find_sizes(name, entry, results)
    if not (known.get("layers") and known.get("hidden_size")):
        counted = known.get("parameters")
        known = {**UNKNOWN, "parameters": counted} if counted else UNKNOWN
        origin = ASSUMED
    hidden = known["hidden_size"]
    heads = known.get("heads") or max(1, hidden // 128)
    size = {
        "layers": known["layers"],
        "hidden_size": hidden,
        "heads": heads,
        "key_value_heads": known.get("key_value_heads") or heads,
        "head_dim": known.get("head_dim") or max(1, hidden // heads),
        "intermediate_size": known.get("intermediate_size") or 4 * hidden,
        "vocabulary": known.get("vocabulary") or UNKNOWN["vocabulary"],
        "dtype": known["dtype"] if known.get("dtype") in BYTES else "float32",
    }
    return ModelSize(
        **size,
        parameters=known.get("parameters") or estimate_parameters({**known, **size}),
        source="gguf" if _is_gguf(entry) else entry["source"],
        origin=origin,
        training=entry if entry["source"] == "finetune" else None,
        mask_heads=known.get("mask_heads") or 0,
    )


def estimate_parameters(size: Mapping) -> int:
    """The number of parameters of a decoder with gated feed-forward blocks of these sizes."""
    hidden, head_dim = size["hidden_size"], size["head_dim"]
    attention = 2 * hidden * head_dim * (size["heads"] + size["key_value_heads"])
    feed_forward = 3 * hidden * size["intermediate_size"] * (size.get("experts") or 1)
    embeddings = size["vocabulary"] * hidden * (1 if size.get("tied") else 2)
    return embeddings + hidden + size["layers"] * (attention + feed_forward + 2 * hidden)


def _is_gguf(entry: Mapping) -> bool:
    """Whether the weights are converted from a GGUF file."""
    if entry["source"] == "path":
        return find_gguf(entry) is not None
    return entry["source"] == "pypi" or bool(entry.get("file"))


def _find_sizes(name: str, entry: Mapping, results: Path) -> tuple[Mapping, str]:
    """The known sizes and their origin."""
    file = results / name / "model.json"
    earlier = _read_json(file)
    if earlier.get("entry") == drop_shape(entry) and earlier.get("parameters"):
        return earlier, str(file)
    if entry["source"] == "path" and (gguf := find_gguf(entry)) is not None:
        if not entry.get("shape"):
            return _read_gguf_sizes(gguf), f"the header of {gguf}"
    elif entry["source"] == "path":
        folder = Path(entry["path"]).expanduser()
        if config := _read_json(folder / "config.json"):
            shape = shape_of(text_part(config))
            return shape | {"parameters": count_parameters(folder)}, str(folder / "config.json")
    if entry["source"] == "finetune":
        known, origin = _find_sizes(entry["base"], entry["base_entry"], results)
        return {**known, "dtype": "float32"} if known else known, origin
    return entry.get("shape", {}), "shape in the model's entry"


def _read_gguf_sizes(gguf: Path) -> Mapping[str, Any]:
    try:
        return sizes_of(check_gguf_header(gguf, str(gguf)))
    except UserError:
        return {}  # damaged, which the job that converts it reports


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
