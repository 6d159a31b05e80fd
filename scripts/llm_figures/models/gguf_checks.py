"""What transformers would drop without a word while it converts a GGUF file: refused, or kept.

It knows a GGUF file's tensors by a table of names. A tensor that is not in the table is dropped,
and a weight that no tensor fills is random. Of the metadata it reads what its own table names.
"""

import math
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from llm_figures.core.errors import UserError
from llm_figures.models.gguf_header import check_gguf_header, own_metadata
from llm_figures.models.gguf_tensors import read_gguf_tensors, unpack

# Numbers by which the frequencies of rotary embedding are divided. They are no weights.
FACTORS = "rope_freqs.weight"
# Of Llama 3.1 to 3.3: with these constants, llama.cpp computes the factors that it writes.
LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
# Metadata that changes attention, the stream or logits, the attributes of configs that hold the
# same, and the factor that changes nothing. Zero says nothing, as to llama.cpp.
SETTINGS: dict[str, tuple[str | None, float | None]] = {
    "attention.sliding_window": ("sliding_window", None),
    "attn_logit_softcapping": ("attn_logit_softcapping", None),
    "final_logit_softcapping": ("final_logit_softcapping", None),
    "attention.clamp_kqv": ("clip_qkv", None),
    "attention.scale": ("attention_multiplier", None),
    "embedding_scale": ("embedding_multiplier", 1.0),
    "residual_scale": ("residual_multiplier", 1.0),
    "logit_scale": ("logit_scale", 1.0),
    "rope.scaling.attn_factor": (None, 1.0),
}
HINT = "take the model's safetensors weights"


def check_gguf_names(config: PreTrainedConfig, gguf: Path, where: str) -> None:
    """Check that every tensor of a file has a place in its model, and every weight a tensor.

    config: as transformers reads it from the file.

    Raises:
        UserError: names the first tensor that is missing or without a place; begins with `where`.
    """
    from transformers.integrations.gguf.utils import is_gguf_arch_supported

    header = check_gguf_header(gguf, where)
    architecture = header.metadata.get("general.architecture")
    if is_gguf_arch_supported(architecture):
        return  # such a file is read in another way, which reports what it drops
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    with torch.device("meta"):  # names without weights
        model = AutoModelForCausalLM.from_config(config)
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    try:
        places = get_gguf_hf_weights_map(model, processor)
    except NotImplementedError as error:
        raise UserError(
            f"{where}: transformers does not read this model from GGUF: "
            f"{' '.join(str(error).split())[:200]}; {HINT}"
        ) from None
    # experts are named without an ending in the table, and found with one
    experts = getattr(processor, "GGUF_MOE_WEIGHTS_PATTERN", None)
    taken = set()
    for name in header.tensors:
        match = experts and experts.fullmatch(name)
        inner = match.groupdict().get("name") if match else None
        taken.add(inner if inner in places else name)
    weights = set(model.state_dict()) - set(model.all_tied_weights_keys)
    expected = {name: place for name, place in places.items() if place in weights}
    filled = {expected[name] for name in taken & expected.keys()}
    missing = sorted(
        name
        for name, place in expected.items()
        # gate and up of all experts fill one weight, of which half would stay zero
        if name not in taken and (place not in filled or name.endswith("_exps"))
    )
    if missing:
        raise UserError(
            f"{where}: {gguf.name} lacks {len(missing)} tensor(s) of a {config.model_type} model, "
            f"for example {missing[0]}; download it again, or {HINT}"
        )
    unused = sorted(taken - places.keys() - {FACTORS})
    if unused:
        raise UserError(
            f"{where}: {gguf.name} holds {len(unused)} tensor(s) that have no place in "
            f"{type(model).__name__}, for example {unused[0]}, and would be ignored; {HINT}"
        )


def apply_rotary_scaling(config: PreTrainedConfig, gguf: Path, where: str) -> None:
    """Give a config what a GGUF file says of rotary embedding and transformers does not read.

    Raises:
        UserError: a scaling, or another setting of attention, that the config cannot be given.
    """
    header = check_gguf_header(gguf, where)
    own = own_metadata(header.metadata)
    parameters = dict(getattr(config, "rope_parameters", None) or {})
    # files before August 2023 have another key; a factor without a type is that of linear scaling
    kind = own.get("rope.scaling.type", "linear")
    factor = own.get("rope.scaling.factor", own.get("rope.scale_linear")) or 1.0
    if (
        kind != "none"
        and not math.isclose(factor, 1.0)
        and (parameters.get("rope_type"), parameters.get("factor")) != (kind, factor)
    ):
        raise UserError(
            f"{where}: {gguf.name} scales its rotary embedding ({kind}, factor {factor:g}), which "
            f"transformers does not read from GGUF; {HINT}"
        )
    for key, (attribute, neutral) in SETTINGS.items():
        value = own.get(key)
        known = getattr(config, attribute, None) if attribute else None
        if known is None:
            known = _own_scale(config) if key == "attention.scale" else neutral
        if value and (known is None or not math.isclose(value, known, rel_tol=1e-6)):
            raise UserError(
                f"{where}: {gguf.name} says {key} {value:g}, which transformers reads as {known}; "
                f"{HINT}"
            )
    if FACTORS in header.tensors:
        _apply_factors(config, parameters, _read_factors(gguf), f"{where}: {gguf.name}")


def _own_scale(config: PreTrainedConfig) -> float | None:
    """The factor of a config's attention scores if it has none of its own."""
    size = getattr(config, "query_pre_attn_scalar", None) or getattr(config, "head_dim", None)
    if size is None and getattr(config, "num_attention_heads", None):
        size = config.hidden_size // config.num_attention_heads
    return size and size**-0.5


def _apply_factors(
    config: PreTrainedConfig, parameters: dict, factors: np.ndarray, where: str
) -> None:
    """Find the constants of Llama 3 that give these factors of the frequencies, and set them."""
    if np.allclose(factors, 1.0):
        return
    factor = float(factors.max())
    theta = parameters.get("rope_theta")
    scaled = {**parameters, "rope_type": "llama3", "factor": factor, **LLAMA3}
    if theta is None or not np.allclose(llama3_factors(theta, len(factors), scaled), factors, 1e-4):
        raise UserError(
            f"{where} scales the frequencies of its rotary embedding ({FACTORS}) in a way that is "
            f"not that of Llama 3; {HINT}"
        )
    config.rope_parameters = scaled


def llama3_factors(theta: float, pairs: int, scaling: dict) -> np.ndarray:
    """[pairs] by what Llama 3 divides each frequency of rotary embedding.

    Long waves are stretched by the factor, short ones not, those between in part.
    """
    waves = 2 * np.pi * theta ** (np.arange(pairs) / pairs)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / waves
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)


def _read_factors(gguf: Path) -> np.ndarray:
    tensor = read_gguf_tensors(gguf)[FACTORS]
    return unpack(tensor.read(), tensor.kind).ravel().astype(np.float64)
