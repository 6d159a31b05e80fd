"""Load a prepared model, and describe what it runs on."""

import os
import socket
from pathlib import Path

from llm_figures.core.environment import OFFLINE, REPEATABLE

os.environ.update(OFFLINE | REPEATABLE | os.environ)

import tokenizers
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.models.auto_classes import find_auto_class
from llm_figures.models.cpu_kernels import prepare_for_cpu
from llm_figures.models.decoders import check_text_alone, decoder_layers
from llm_figures.models.decoders import decoder as decoder
from llm_figures.models.folder_checks import check_generation_config
from llm_figures.models.model_info import read_model_info
from llm_figures.models.options import Runtime
from llm_figures.models.pickled_files import check_pickled_files
from llm_figures.models.quantization import (
    DEQUANTISED,
    NATIVE,
    check_pickled_weights,
    check_stored_weights,
    dequantizing,
    find_method,
    unify_dtype,
)
from llm_figures.models.safetensors_files import is_stored_safely
from llm_figures.models.tokenizer_files import load_tokenizer, refuse_unknown_ids
from llm_figures.models.weight_checks import check_finite_weights, check_names, missing_head

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load_model(
    model_info: str | Path,
    runtime: Runtime,
    threads: int | None = None,
    needs_head: bool = True,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model that a `model.json` describes, ready for inference.

    model_info: the path of that file.
    runtime: device, dtype and device_map. The device "auto" is CUDA, else Apple's mps, else the
        CPU. The dtype "auto" is float32 on the CPU and the checkpoint's own elsewhere, or float32
        where the device lacks that. For device_map see `make_device_map`.
    threads: of torch, so that parallel jobs do not compete for the cores; None leaves its default.
    needs_head: whether logits are needed. Without, a checkpoint may lack its output embeddings.

    Raises:
        UserError: the folder is missing or incomplete, the device is missing or lacks the dtype,
            the weights do not load, do not fit the class, hold NaN or overflow, or there is no
            tokenizer. A pass over a token id without an embedding raises it, too.
    """
    known = read_model_info(model_info)
    folder = Path(known["folder"])
    needed = ["config.json", *known.get("weights", {})]
    if not all((folder / name).is_file() for name in needed):
        raise UserError(
            f"model folder {folder}, named in {model_info}, is missing or incomplete on "
            f"{socket.gethostname()}; prepare the model again with: snakemake figures --forcerun "
            "prepare_model; on a cluster, first set XDG_CACHE_HOME to a folder that all nodes share"
        )
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # every buffer is written before it is read here; to fill them first would double the time
    torch.utils.deterministic.fill_uninitialized_memory = False
    device = _resolve_device(runtime.device)
    dtype = _resolve_dtype(runtime.dtype, device, known.get("dtype"))
    arguments = {"local_files_only": True, "trust_remote_code": known["trust_remote_code"]}
    where = f"the model in {folder}"
    if known["safetensors_only"] or is_stored_safely(folder):
        check_stored_weights(folder, where)
    else:
        check_pickled_weights(check_pickled_files(folder, where), folder, where)
    check_generation_config(folder, where)
    try:
        config = AutoConfig.from_pretrained(folder, **arguments)
        device_map = (
            None
            if runtime.device_map is None
            else make_device_map(folder, dtype, runtime.device_map, arguments, device)
        )
        model, report = find_auto_class(config).from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            dtype=dtype,
            use_safetensors=True if known["safetensors_only"] else None,
            device_map=device_map,
            **arguments,
            **dequantizing(config.to_dict()),
        )
        if find_method(config.to_dict()) in (*DEQUANTISED, *NATIVE):
            unify_dtype(model, model.dtype if dtype == "auto" else dtype)
        if device_map is None:
            model.to(device)
    except torch.OutOfMemoryError:
        raise UserError(
            f"CUDA out of memory with the weights of the model in {folder} alone; spread it over "
            "several GPUs (device_map: auto), set dtype: bfloat16, or use a larger GPU"
        ) from None
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        *(ImportError, RuntimeError, SafetensorError),
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{where} does not load: {reason}") from error
    check_names(model, report, f"the weights in {folder}", needs_head)
    check_finite_weights(model, folder, missing_head(model, report))
    tokenizer = load_tokenizer(folder, where, known["trust_remote_code"])
    refuse_unknown_ids(model, folder)
    prepare_for_cpu(model)
    if config.get_text_config() is not config:
        check_text_alone(model)
    return model.eval(), tokenizer


def make_device_map(
    folder: Path,
    dtype: torch.dtype | str,
    device_map: str,
    arguments: dict,
    device: torch.device,
    room: dict[int, int] | None = None,
) -> dict[str, int | str]:
    """Distribute a model over the GPUs: {part of it: GPU}, for from_pretrained.

    A block is never divided, and nothing is put on the CPU or on disk.

    device_map: "auto" and "balanced" fill the GPUs equally, "sequential" one after the other.
    arguments: of transformers' loaders.
    room: bytes per GPU; by default nine tenths of what is free.

    Raises:
        UserError: no GPU, or too little room.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    if device.type != "cuda":
        raise UserError(
            f"config: device_map: {device_map}: there is no GPU here to spread the model over; "
            "run on a node with GPUs, or set device_map to null"
        )
    if room is None:
        room = {gpu: free * 9 // 10 for gpu, free in get_max_memory().items() if gpu != "cpu"}
    config = AutoConfig.from_pretrained(folder, **arguments)
    with torch.device("meta"):  # sizes without weights
        model = find_auto_class(config).from_config(
            config,
            dtype=getattr(config, "dtype", None) if dtype == "auto" else dtype,
            trust_remote_code=arguments["trust_remote_code"],
        )
    model.tie_weights()
    blocks = [type(decoder_layers(model)[0]).__name__]
    if device_map != "sequential":
        room = get_balanced_memory(model, room, no_split_module_classes=blocks)
    places = infer_auto_device_map(model, room, no_split_module_classes=blocks)
    outside = [part or "all of it" for part, gpu in places.items() if gpu in ("cpu", "disk")]
    if outside:
        shown = ", ".join(outside[:3]) + (f" and {len(outside) - 3} more" * (len(outside) > 3))
        raise UserError(
            f"config: device_map: {device_map}: the model in {folder} does not fit the "
            f"{len(room)} GPU(s) here, {shown} would be off them; ask for more or larger GPUs "
            "(gpus), or set dtype: bfloat16"
        )
    return places


def input_device(model: PreTrainedModel) -> torch.device:
    """The device of the embeddings, where token ids go."""
    return model.get_input_embeddings().weight.device


def runtime_facts(model: PreTrainedModel) -> dict:
    """What a loaded model runs on: all that its numbers depend on beside weights and inputs.

    Equal for two runs on one machine: no times, host names or numbers of threads.
    """
    devices = sorted({weights.device for weights in model.parameters()}, key=str)
    return {
        "device": "+".join(sorted({device.type for device in devices})),
        "device_names": [
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
            for device in devices
        ],
        "dtype": "+".join(sorted({str(w.dtype).split(".")[1] for w in model.parameters()})),
        "attention": model.config._attn_implementation,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "cuda": torch.version.cuda if devices and devices[0].type == "cuda" else None,
    }


def context_length(model: PreTrainedModel) -> int | None:
    """The most tokens that the model takes; None if its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"config: device: {device!r} cannot be used here: {reason}") from None
    return resolved


def _resolve_dtype(dtype: str, device: torch.device, own: str | None) -> torch.dtype | str:
    """The dtype that weights are loaded in. own: the checkpoint's; None if its config lacks it."""
    if dtype != "auto":
        if not _supports(device, dtype):
            raise UserError(
                f"config: dtype: {dtype}: {_named(device)} does not compute in it; set dtype: "
                "float32, or float16"
            )
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    if own is not None and not _supports(device, own):
        # not float16: numbers that fit bfloat16 overflow in it
        log.info("the checkpoint is %s, which %s does not compute in: float32", own, _named(device))
        return torch.float32
    return "auto"


def _supports(device: torch.device, dtype: str) -> bool:
    """Whether the device computes in `dtype` itself rather than by way of another."""
    if device.type == "cuda" and dtype == "bfloat16":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        if dtype == "float64":
            return False
        try:
            torch.ones(1, dtype=getattr(torch, dtype), device=device).add_(1)
        except (TypeError, RuntimeError, AttributeError):  # bfloat16 before macOS 14
            return False
    return True


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
