"""What a folder or a repository is if it is no complete transformers model, and what to do."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.models.gguf_header import is_gguf_name
from llm_figures.models.model_files import read_json_object

ADAPTER = "adapter_config.json"
GENERATION = "generation_config.json"
# Pickled weights, which can run code when they are read.
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
# A name on the hub, owner/name.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MERGE = (
    "merge it into its base model with peft (AutoPeftModelForCausalLM.from_pretrained(…)"
    ".merge_and_unload().save_pretrained(…), and save the tokenizer there) and name that folder"
)


def check_folder(folder: Path, where: str) -> None:
    """Check that a folder exists, has a config.json and is not an adapter's.

    Raises:
        UserError: it is no folder of a transformers model; begins with `where`.
    """
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder{_hint_of_hub(folder)}")
    files = [path.relative_to(folder).as_posix() for path in _near_files(folder)]
    check_files(files, where, lambda name: folder / name)
    read_json_object(folder / "config.json", where)


def check_generation_config(folder: Path, where: str) -> None:
    """Check the file that names the tokens at which answers end, if there is one.

    transformers ignores a damaged one, and answers then end elsewhere.

    Raises:
        UserError: it is a Git LFS pointer or no JSON object; begins with `where`.
    """
    if (folder / GENERATION).is_file():
        read_json_object(folder / GENERATION, where)


def check_files(files: Collection[str], where: str, get: Callable[[str], Path]) -> None:
    """Check that files are those of a transformers model and not of an adapter.

    files: paths in the folder or repository. get: from such a path to the file itself, for what an
        adapter says of itself.

    Raises:
        UserError: they are something else; begins with `where`, says what and what to do.
    """
    if ADAPTER in files:
        raise UserError(
            f"{where}: {_describe_adapter(get(ADAPTER), where, 'config.json' in files)}"
        )
    if "config.json" in files:
        return
    elsewhere = sorted(name for name in files if name.endswith(f"/{ADAPTER}"))
    if elsewhere:
        raise UserError(
            f"{where}: no config.json in it, but {len(elsewhere)} PEFT adapter(s), for example in "
            f"{Path(elsewhere[0]).parent}; choose one and {MERGE}"
        )
    raise UserError(
        f"{where}: no config.json in it; it must be a transformers model folder{_hint(files)}"
    )


def describe_no_weights(files: Collection[str]) -> str:
    """Why none of a folder's or repository's own files are its weights, and what to do."""
    if ggufs := [file for file in files if is_gguf_name(file)]:
        return f"no .safetensors weights there, but GGUF; name the file to use: file: {ggufs[0]}"
    if others := [file for file in files if file.endswith(".safetensors")]:
        return (
            f"no model.safetensors there, nor an index of several files; {others[0]} holds weights "
            "under names that transformers does not read, as those of another program or of an "
            "adapter; use a checkpoint in the format of transformers"
        )
    if pickled := [file for file in files if file.endswith(PICKLED)]:
        return (
            f"no .safetensors weights there, only pickled ones ({pickled[0]}), which can run code; "
            "convert them, or set safetensors_only: false for a source you trust"
        )
    return "no .safetensors weights there; the folder is no model's, or was not copied completely"


def _describe_adapter(file: Path, where: str, beside_a_model: bool) -> str:
    written = read_json_object(file, where)
    kind = str(written.get("peft_type", "")).replace("_", " ")
    base = written.get("base_model_name_or_path")
    what = f"PEFT adapter ({kind})" if kind else "PEFT adapter"
    trained = f" of {base}" if base else ""
    if beside_a_model:
        return (
            f"{ADAPTER} says that a {what}{trained} is beside these weights, which would be "
            f"ignored; {MERGE}, or remove {ADAPTER} to use the weights without it"
        )
    return f"it is a {what}{trained}, not a model; {MERGE}"


def _hint_of_hub(folder: Path) -> str:
    """How to name a repository of the hub, if the path may be one's name."""
    if not _REPOSITORY.fullmatch(str(folder)) or folder.parent.is_dir():
        return ""
    return f"; for a repository of the hub write: source: hub, repo: {folder}, revision: (a commit)"


def _hint(files: Collection[str]) -> str:
    ggufs = sorted(name for name in files if is_gguf_name(name) and "/" not in name)
    if ggufs:
        return f"; for its GGUF weights set file: {ggufs[0]}"
    if inner := sorted(name for name in files if name.endswith("/config.json")):
        return f"; there is one in {Path(inner[0]).parent}"
    return ""


def _near_files(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it."""
    return sorted(path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_file())
