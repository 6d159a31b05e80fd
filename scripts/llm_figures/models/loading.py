"""Loading a prepared model, and what other stages must know of it."""

import os
import socket
from pathlib import Path

from llm_figures.core.environment import OFFLINE, REPEATABLE

os.environ.update(OFFLINE | REPEATABLE | os.environ)

import tokenizers
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.models.cpu_kernels import prepare_for_cpu
from llm_figures.models.decoders import decoder as decoder
from llm_figures.models.decoders import decoder_layers
from llm_figures.models.model_info import read_model_info

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load_model(
    card_path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    device_map: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model described by a `model.json`, ready for inference.

    device: "auto" (CUDA, else Apple's mps, else CPU) or a torch device.
    dtype: "auto" (float32 on the CPU, the checkpoint's own elsewhere, or float32 where the device
        lacks it) or a torch dtype's name.
    threads: torch threads, so that jobs side by side do not fight over the cores.
    device_map: how the model is spread over the GPUs, see `spread`; None keeps it on one device.

    Raises:
        UserError: the folder is not there, the device is missing or lacks the dtype, the weights
            do not load or do not fit.
    """
    model_info = read_model_info(card_path)
    folder = Path(model_info["folder"])
    needed = ["config.json", *model_info.get("weights", {})]
    if not all((folder / name).is_file() for name in needed):
        raise UserError(
            f"model folder {folder} is not on {socket.gethostname()}, or not whole (named in "
            f"{card_path}); if it "
            "is gone, prepare it again with: snakemake figures --forcerun prepare_model; on a "
            "cluster it must lie where every node sees it: set XDG_CACHE_HOME to a shared folder "
            "before that"
        )
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Every buffer is written before it is read here; filling them first would double the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    place = _device(device)
    kind = _dtype(dtype, place, model_info.get("dtype"))
    known = {"local_files_only": True, "trust_remote_code": model_info["trust_remote_code"]}
    try:
        where = {}
        if device_map is not None:
            where["device_map"] = spread(folder, kind, device_map, known, place)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            dtype=kind,
            use_safetensors=model_info["safetensors_only"],
            **known,
            **where,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **known)
        if not where:
            model.to(place)
    except torch.OutOfMemoryError:
        raise UserError(
            f"CUDA out of memory with the weights of the model in {folder} alone; spread it over "
            "several GPUs (device_map: auto), set dtype: bfloat16, or use a larger GPU"
        ) from None
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the model in {folder} does not load: {reason}") from error
    # transformers fills missing weights with random numbers and goes on; a figure must not.
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    if absent := sorted([*report["missing_keys"], *mismatched]):
        raise UserError(
            f"the weights in {folder} do not fit its config.json: {len(absent)} tensor(s) missing "
            f"or of another shape, for example {absent[0]}"
        )
    prepare_for_cpu(model)
    return model.eval(), tokenizer


def spread(
    folder: Path,
    dtype: torch.dtype | str,
    device_map: str,
    known: dict,
    place: torch.device,
    room: dict[int, int] | None = None,
) -> dict[str, int | str]:
    """{part of the model: its GPU}, for from_pretrained; a block is never divided.

    device_map: auto or balanced fill the GPUs alike, sequential one after the other.
    known: further arguments of transformers' loaders.
    room: bytes of each GPU; by default nine tenths of what is free.

    Raises:
        UserError: no GPU, or too little room: nothing is put on the CPU or on disk.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    if place.type != "cuda":
        raise UserError(
            f"config: device_map: {device_map}: there is no GPU here to spread the model over; "
            "run on a node with GPUs, or set device_map to null"
        )
    if room is None:
        room = {gpu: free * 9 // 10 for gpu, free in get_max_memory().items() if gpu != "cpu"}
    config = AutoConfig.from_pretrained(folder, **known)
    with torch.device("meta"):  # sizes without weights
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=getattr(config, "dtype", None) if dtype == "auto" else dtype,
            trust_remote_code=known["trust_remote_code"],
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
    """Where token ids go: to the embeddings, wherever the rest of the model is."""
    return model.get_input_embeddings().weight.device


def runtime_facts(model: PreTrainedModel) -> dict:
    """What a loaded model runs on: all that moves its numbers but its weights and inputs.

    The same for two runs on one machine: no times, no names of hosts, no number of threads.
    """
    places = sorted({weights.device for weights in model.parameters()}, key=str)
    return {
        "device": "+".join(sorted({place.type for place in places})),
        "device_names": [
            torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
            for place in places
        ],
        "dtype": "+".join(sorted({str(w.dtype).split(".")[1] for w in model.parameters()})),
        "attention": model.config._attn_implementation,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "cuda": torch.version.cuda if places and places[0].type == "cuda" else None,
    }


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens the model takes at most; None where its config does not say."""
    return getattr(model.config, "max_position_embeddings", None)


def _device(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"config: device: {device!r} cannot be used here: {reason}") from None
    return place


def _dtype(dtype: str, device: torch.device, own: str | None) -> torch.dtype | str:
    """What weights are loaded as; own: the checkpoint's dtype, None where it does not say."""
    if dtype != "auto":
        if not _has(device, dtype):
            raise UserError(
                f"config: dtype: {dtype}: {_named(device)} does not compute in it; set dtype: "
                "float32, or float16"
            )
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    if own is not None and not _has(device, own):
        # not float16: numbers that fit bfloat16 overflow in it, and a figure would be of that
        log.info("the checkpoint is %s, which %s does not compute in: float32", own, _named(device))
        return torch.float32
    return "auto"


def _has(device: torch.device, dtype: str) -> bool:
    """Whether the device computes in `dtype` itself, not only by way of another."""
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
