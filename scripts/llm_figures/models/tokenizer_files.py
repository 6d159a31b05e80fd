"""Load the tokenizer of a prepared model, and refuse token ids that the model does not have."""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.models.model_files import A_POINTER, is_lfs_pointer, read_json_object

# What a tokenizer needs to be built from these files, as package and import.
CONVERTERS = {"tokenizer.model": "sentencepiece", "spiece.model": "sentencepiece"}


def load_tokenizer(
    folder: Path, where: str, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a model's folder.

    where: how messages begin.

    Raises:
        UserError: its files are missing or damaged, or need a package that is not installed.
    """
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # tokenizers raises exceptions of no class of its own
        check_tokenizer_files(folder, where)
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{where}: its tokenizer does not load: {reason}") from error


def check_tokenizer_files(folder: Path, where: str) -> None:
    """Check the files of a tokenizer as far as it can be done without loading it.

    Raises:
        UserError: a file is damaged or a Git LFS pointer, or needs a package that is not installed.
    """
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            read_json_object(folder / name, where)
    for name, package in CONVERTERS.items():
        if not (folder / name).is_file():
            continue
        if is_lfs_pointer(folder / name):
            raise UserError(f"{where}: {folder / name} is {A_POINTER}")
        if not (folder / "tokenizer.json").is_file() and find_spec(package) is None:
            raise UserError(
                f"{where}: its tokenizer is {name} alone, which needs the package {package}, not "
                f"installed here; install it (pip install {package}), or put the tokenizer.json "
                "of the model beside it"
            )


def refuse_unknown_ids(model: PreTrainedModel, folder: Path) -> None:
    """Let a pass over a token id that has no embedding raise a UserError."""
    embeddings = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None) or len(embeddings.weight)

    def check(_module: torch.nn.Module, inputs: tuple) -> None:
        ids = inputs[0] if inputs else torch.empty(0)
        if ids.numel() and not ids.is_meta and (largest := int(ids.max())) >= rows:
            raise UserError(
                f"token id {largest} is beyond the {rows} embeddings of the model in {folder}; its "
                "tokenizer is that of another model, or has tokens that were added without "
                "resizing the embeddings: take the tokenizer that belongs to the weights"
            )

    embeddings.register_forward_pre_hook(check)
