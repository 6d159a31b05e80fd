"""Loading a prepared model, and what other stages must know of it."""

import os
import socket
from pathlib import Path

# Weights and tokenizer are on disk by now: a job on a node without network must not look further.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# CUDA's matrix products repeat to the bit only with a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import tokenizers
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm_figures.errors import UserError
from llm_figures.shapes import read_card

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load_model(
    card_path: str | Path, device: str = "auto", dtype: str = "auto", threads: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model described by a `model.json`, ready for inference.

    device: "auto" (CUDA, else Apple's mps, else CPU) or a torch device.
    dtype: "auto" (float32 on the CPU, the checkpoint's own elsewhere) or a torch dtype's name.
    threads: torch threads, so that jobs side by side do not fight over the cores.

    Raises:
        UserError: the folder is not there, the device is missing, the weights do not load.
    """
    card = read_card(card_path)
    folder = Path(card["folder"])
    if not (folder / "config.json").is_file():
        raise UserError(
            f"model folder {folder} is not on {socket.gethostname()} (named in {card_path}); if it "
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
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            dtype=_dtype(dtype, place),
            local_files_only=True,
            trust_remote_code=card["trust_remote_code"],
            use_safetensors=card["safetensors_only"],
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=card["trust_remote_code"]
        )
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
    return model.to(place).eval(), tokenizer


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


def decoder(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its language-model head."""
    return model.get_decoder()


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's blocks, in order.

    Raises:
        UserError: the architecture keeps them somewhere unknown.
    """
    inner = decoder(model)
    for name in ("layers", "h", "blocks"):
        if isinstance(found := getattr(inner, name, None), torch.nn.ModuleList):
            return found
    raise UserError(
        f"models of type {model.config.model_type} keep their layers in an unknown place; "
        "choose another model"
    )


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


def _dtype(dtype: str, device: torch.device) -> torch.dtype | str:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, dtype)
