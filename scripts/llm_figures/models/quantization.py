"""Which quantised checkpoints load, from config.json and the dtypes of the stored tensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Container, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_figures.core.errors import UserError
from llm_figures.models.model_files import read_json_object
from llm_figures.models.safetensors_files import check_weight_files
from llm_figures.models.tensor_names import HARMLESS, OTHER_TOWER

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Dequantised while they are loaded, on every device: the same numbers with and without kernels.
DEQUANTISED = ("fp8", "mxfp8", "mxfp4")
# Run by transformers as they are, with torch alone.
NATIVE = ("bitnet",)
# The packages that others need, as they are imported. None loads a published checkpoint without.
PACKAGES: dict[str, tuple[str, ...]] = {
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "auto-round": ("auto_round",),
    "torchao": ("torchao",),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "aqlm": ("aqlm",),
    "vptq": ("vptq",),
    "spqr": ("spqr_quant",),
    "eetq": ("kernels",),
    "higgs": ("flute", "fast_hadamard_transform"),
    "fbgemm_fp8": ("fbgemm_gpu",),
    "fp_quant": ("fp_quant",),
    "sinq": ("sinq",),
}
# Dtypes of weights that are as they are, and of whole numbers that are no weights elsewhere.
WHOLE = ("F64", "F32", "F16", "BF16")
INDICES = ("BOOL", "I64", "U64", "I32", "U32", "I16", "U16")
# Tensors that are scales of others, or masks.
BESIDE = re.compile(r"scales?(_inv)?$|\.qscale_weight$|mask$")
# Endings of the scale of a tensor, in place of an ending of its own.
SCALES = (
    ("", "_scale_inv"),
    ("", "_scale"),
    (".weight", ".scale"),
    (".weight", ".qscale_weight"),
    ("_blocks", "_scales"),
)
# Matrices of LoRA and its relatives.
ADAPTED = re.compile(r"\.(lora_[A-Za-z_]+|ia3_l|hada_w\d_[ab]|oft_R)(\.|$)")
INSTEAD = "use the unquantised checkpoint, or a GGUF file of it"


def check_quantization(config: Mapping[str, Any], where: str) -> None:
    """Check that quantised weights load here, before they are downloaded.

    config: of config.json. where: how messages begin.

    Raises:
        UserError: a method that does not load; names it and what to use instead. An empty
            quantization_config, which transformers refuses.
    """
    method = find_method(config)
    if method is None and (_written(config), _written(_text(config))) != (None, None):
        raise UserError(
            f"{where}: quantization_config in config.json is empty; remove it if the weights are "
            f"not quantised, else {INSTEAD}"
        )
    if method is None or method in (*DEQUANTISED, *NATIVE):
        return
    if method not in PACKAGES:
        raise UserError(
            f"{where}: its weights are quantised with {method}, which does not load here; {INSTEAD}"
        )
    if lacking := [name for name in PACKAGES[method] if not _is_installed(name)]:
        raise UserError(
            f"{where}: its weights are quantised with {method}, which needs packages that are not "
            f"installed ({', '.join(lacking)}); {INSTEAD}"
        )


def find_method(config: Mapping[str, Any]) -> str | None:
    """The method of quantization that config.json names; None if it names none."""
    written = _written(config) or _written(_text(config))
    if not written:
        return None
    if not isinstance(written, Mapping):
        return "an unknown method"
    if written.get("load_in_4bit") or written.get("load_in_8bit"):
        return "bitsandbytes"
    return str(written.get("quant_method") or "an unknown method")


def check_stored_weights(folder: Path, where: str) -> None:
    """Check that a folder's safetensors files are whole, and that packed weights can be unpacked.

    Raises:
        UserError: see `check_weight_files`, `check_scales` and `check_blocks`; matrices of a LoRA
            adapter among the weights.
    """
    tensors = check_weight_files(folder, where)
    if adapted := sorted(name for name in tensors if ADAPTED.search(name)):
        raise UserError(
            f"{where}: {len(adapted)} tensor(s) are matrices of an adapter, for example "
            f"{adapted[0]}, which would be ignored; merge them with peft's merge_and_unload()"
        )
    config = read_json_object(folder / "config.json", where)
    check_scales({name: tensor.dtype for name, tensor in tensors.items()}, config, where)
    check_blocks({name: tensor.shape for name, tensor in tensors.items()}, config, where)


def check_pickled_weights(files: Sequence[Path], folder: Path, where: str) -> None:
    """Check that a folder's pickled files can be read, and that no packed weight lacks its scale.

    Raises:
        UserError: see `check_scales`; a damaged file.
    """
    import torch

    dtypes: dict[str, str] = {}
    for file in files:
        try:
            tensors = torch.load(file, map_location="meta", weights_only=True)  # without numbers
        except Exception as error:  # an unpickler raises anything, with advice that is dangerous
            unsafe = isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower()
            reason = "holds more than weights" if unsafe else "cannot be read"
            raise UserError(
                f"{where}: {file} {reason}; download it again, or use safetensors weights"
            ) from None
        for name, tensor in tensors.items():
            kind = str(getattr(tensor, "dtype", "")).removeprefix("torch.")
            short = re.sub(r"^(bf|f|u|i)[a-z]*(\d+).*", r"\1\2", kind)
            dtypes[name] = short.upper()  # as safetensors names it
    check_scales(dtypes, read_json_object(folder / "config.json", where), where)


def check_scales(dtypes: Mapping[str, str], config: Mapping[str, Any], where: str) -> None:
    """Check that every packed weight of the decoder has its scale, by names and dtypes alone.

    transformers takes the numbers of a float8 weight without a scale for the weight itself.

    dtypes: {tensor: dtype as safetensors names it}. config: of config.json.

    Raises:
        UserError: a weight in 8 bits or less without its scale, or without a method of quantization
            in config.json; names it.
    """
    method = find_method(config)
    if method in PACKAGES:
        return
    packed = {name: dtype for name, dtype in dtypes.items() if _is_packed(name, dtype)}
    if method is None and packed:
        name = min(packed)
        raise UserError(
            f"{where}: {len(packed)} weight(s) are stored as {packed[name]}, for example {name}, "
            f"but config.json has no quantization_config that says how to read them; {INSTEAD}"
        )
    lacking = sorted(name for name in packed if not _has_scale(name, dtypes))
    if lacking:
        raise UserError(
            f"{where}: {len(lacking)} weight(s) quantised with {method} have no scale beside them, "
            f"for example {lacking[0]} ({packed[lacking[0]]}); download the checkpoint again, or "
            f"{INSTEAD}"
        )


def check_blocks(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], where: str
) -> None:
    """Check that every weight with a scale per block consists of whole blocks.

    transformers divides a matrix evenly among its scales, whatever the block's size in config.json.

    shapes: {tensor: shape}. config: of config.json.

    Raises:
        UserError: a matrix that it would divide otherwise than it was quantised; names it.
    """
    block = (config.get("quantization_config") or {}).get("weight_block_size")
    if find_method(config) != "fp8" or not isinstance(block, list) or len(block) != 2:
        return
    for name, scales in shapes.items():
        shape = shapes.get(name.removesuffix("_scale_inv"), ())
        if not name.endswith("_scale_inv") or len(shape) != 2 or len(scales) != 2:
            continue
        for size, count, step in zip(shape, scales, block, strict=True):
            if count != -(-size // step) or (count > 1 and size != count * step):
                raise UserError(
                    f"{where}: {name.removesuffix('_scale_inv')} is {shape[0]} × {shape[1]} with "
                    f"{scales[0]} × {scales[1]} scales for blocks of {block[0]} × {block[1]}, "
                    f"which transformers would unpack wrongly; {INSTEAD}"
                )


def _is_packed(name: str, dtype: str) -> bool:
    """Whether a tensor of this name and dtype is a weight of the decoder in packed numbers."""
    if dtype in WHOLE or BESIDE.search(name) or HARMLESS.search(name) or OTHER_TOWER.search(name):
        return False
    # tables of indices are no weights
    return dtype not in INDICES or name.endswith((".weight", "_proj"))


def _has_scale(name: str, names: Container[str]) -> bool:
    return any(
        name.endswith(ending) and name.removesuffix(ending) + scale in names
        for ending, scale in SCALES
    )


def dequantizing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of from_pretrained with which quantised weights are dequantised, if they can be."""
    method = find_method(config)
    if method not in DEQUANTISED:
        return {}
    from transformers import FineGrainedFP8Config, Mxfp4Config

    kind = Mxfp4Config if method == "mxfp4" else FineGrainedFP8Config
    return {"quantization_config": kind(dequantize=True)}


def unify_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give the weights of a model from a quantised checkpoint one dtype.

    transformers leaves them in that of their scales, with which a pass fails. What a family keeps
    in float32 on purpose stays so. BitNet's layers are not compiled, for which a machine may lack
    the tools.
    """
    import torch

    kept = {
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    }
    pattern = re.compile("|".join(map(re.escape, kept)) or r"(?!)")
    torch.compiler.set_stance("force_eager")
    scales = ((name, scale) for name, scale in model.named_buffers() if "weight_scale" in name)
    for name, weights in (*model.named_parameters(), *scales):
        if weights.is_floating_point() and not pattern.search(name):
            weights.data = weights.data.to(dtype)


def _written(config: Mapping[str, Any]) -> Any:
    return config.get("quantization_config")


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else {}


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:  # the package that contains it is not there
        return False
