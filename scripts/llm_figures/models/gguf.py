"""GGUF files: their paths, their tensor types, and conversion to a transformers folder."""

import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.models.gguf_header import check_gguf, is_gguf_name

WEIGHTS = "*.safetensors"
# In a converted model's folder: the sha256 of what the conversion wrote.
HASHES = "weights.sha256.json"
# Part of a converted model's folder name: raise it when `_convert` changes what it writes or
# refuses. 2: tensors without a place, and missing ones, are refused; Llama 3's rotary scaling.
# 3: scales of attention, embeddings and the stream, and linear rotary scaling, are refused.
CONVERSION = 3


def find_gguf(entry: Mapping) -> Path | None:
    """The GGUF file of a `source: path` entry: `path` itself, or `file` in the folder `path`.

    None for a transformers folder.
    """
    path = Path(entry["path"]).expanduser()
    if entry.get("file") is not None:
        return path / entry["file"]
    return path if is_gguf_name(path.name) else None


def count_tensor_types(gguf: Path, where: str) -> dict[str, int]:
    """Count the tensors of a GGUF file by type: {"Q4_1": 210, "F32": 61}, most frequent first.

    Raises:
        UserError: a damaged file, or an unknown type; begins with `where`.
    """
    from llm_figures.models.gguf_tensors import read_gguf_tensors

    check_gguf(gguf, where)
    try:
        counts = Counter(tensor.kind for tensor in read_gguf_tensors(gguf).values())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}: {gguf.name} is damaged: {_reason(error)}; download it again"
        ) from None
    if not counts:
        raise UserError(f"{where}: {gguf.name} has no tensors")
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def converted_folder(cache: Path, name: str, digest: str) -> Path:
    """The folder of the model `name` after conversion from the GGUF file with this sha256."""
    return cache / "models" / f"{name}-{digest[:12]}-v{CONVERSION}"


def convert_gguf(
    get_gguf: Callable[[], Path], folder: Path, where: str, check: Callable | None = None
) -> None:
    """Convert a GGUF file to a transformers folder (safetensors, tokenizer), once.

    get_gguf: returns the file; not called if the folder exists and is complete.
    check: called with the model's config before the conversion.

    Raises:
        UserError: a damaged file, or an architecture that transformers does not read from GGUF.
    """
    if is_complete(folder):
        log.info("model found in %s", folder)
        return
    gguf = get_gguf()
    count_tensor_types(gguf, where)  # names damage, before loading meets it
    with write_folder(folder) as converted:
        log.info("converting %s to safetensors (once, about 20 s for 100 MB)", gguf.name)
        # progress bars do not belong in a log, and no option turns all of them off
        with redirect_stderr(io.StringIO()):
            _convert(gguf, converted, where, check)


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Write a folder of weights, with their hashes, that appears complete or not at all.

    Yields the path to write to, in a temporary folder beside `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        partial = Path(work) / "model"
        yield partial
        hashes = {path.name: sha256(path) for path in sorted(partial.glob(WEIGHTS))}
        (partial / HASHES).write_text(json.dumps(hashes), encoding="utf-8")
        if folder.is_dir() and not is_complete(folder):
            folder.rename(Path(work) / "damaged")
        try:
            partial.rename(folder)
        except OSError:  # another run finished first: its folder is as good
            if not is_complete(folder):
                raise


def is_complete(folder: Path) -> bool:
    """Whether a converted model exists and its weights are those that were written."""
    try:
        hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = {name: folder / name for name in hashes}
    return all(path.is_file() and sha256(path) == hashes[name] for name, path in files.items())


def _convert(gguf: Path, folder: Path, where: str, check: Callable | None) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from llm_figures.models.gguf_checks import apply_rotary_scaling, check_gguf_names
    from llm_figures.models.weight_checks import check_names, is_finite

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        config = AutoConfig.from_pretrained(**source)
    except Exception as error:
        raise UserError(
            f"{where}: transformers does not read this model from GGUF: {_reason(error)}; take "
            "its safetensors weights"
        ) from None
    if check is not None:
        check(config)
    apply_rotary_scaling(config, gguf, where)
    check_gguf_names(config, gguf, where)
    try:
        loaded, report = AutoModelForCausalLM.from_pretrained(
            **source,
            config=config,
            dtype=torch.float32,
            # else a machine with kernels for packed weights keeps them and swaps attention
            quantization_config=GgufConfig(dequantize=True),
            attn_implementation="eager",
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
        )
        tokenizer = AutoTokenizer.from_pretrained(**source)
    except Exception as error:
        raise UserError(f"{where}: {gguf.name} does not load: {_reason(error)}") from error
    check_names(loaded, report, f"{where}: the weights in {gguf.name}", True, "its own header")
    for name, weights in loaded.state_dict().items():
        if not is_finite(weights):
            raise UserError(
                f"{where}: {gguf.name} holds NaN or infinite numbers in {name}; download it again, "
                "or choose another file"
            )
    # a model loaded from GGUF refuses save_pretrained; a fresh one with its weights does not
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = AutoModelForCausalLM.from_config(
        type(loaded.config).from_dict(settings), dtype=torch.float32
    )
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    tokenizer.save_pretrained(folder)
    fresh.save_pretrained(folder)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
