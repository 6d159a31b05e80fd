"""Which quantised checkpoints load, from `quantization_config` of config.json alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llm_figures.core.errors import UserError

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
INSTEAD = "use the unquantised checkpoint, or a GGUF file of it"


def check_quantization(config: Mapping[str, Any], where: str) -> None:
    """Check that quantised weights load here, before they are downloaded.

    config: of config.json. where: how messages begin.

    Raises:
        UserError: a method that does not load; names it and what to use instead.
    """
    if (method := find_method(config)) is None or method in (*DEQUANTISED, *NATIVE):
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
    text = config.get("text_config")
    written = config.get("quantization_config")
    if not written and isinstance(text, Mapping):
        written = text.get("quantization_config")
    if not written:
        return None
    if not isinstance(written, Mapping):
        return "an unknown method"
    if written.get("load_in_4bit") or written.get("load_in_8bit"):
        return "bitsandbytes"
    return str(written.get("quant_method") or "an unknown method")


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


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:  # the package that contains it is not there
        return False
