"""Load the tokenizer of a prepared model, and refuse token ids that the model does not have."""

import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.models.model_files import read_json_object, refuse_lfs_pointer

# What a tokenizer needs to be built from these files, as package and import.
# The JSON files of a tokenizer, and what is read as text.
JSON_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "chat_template.json"),
)
TEXT_FILES = ("*.jinja", "additional_chat_templates/*.jinja", "merges.txt", "vocab.txt")
# The names of the files that some tokenizer of transformers is built from.
_TOKENIZER = re.compile(
    r"(tokenizer|vocab|merges|spiece|sentencepiece|tekken|bpe\.|encoder\.json).*"
    r"|.*\.(model|spm|tiktoken)"
)
# Nearly every vocabulary has a token for one of these.
_TRIED = ("a", "A", "0")
CONVERTERS = {"tokenizer.model": "sentencepiece", "spiece.model": "sentencepiece"}


def load_tokenizer(
    folder: Path, where: str, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a model's folder.

    where: how messages begin.

    Raises:
        UserError: its files are missing or damaged, need a package that is not installed, or have
            no vocabulary.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
        special = {*tokenizer.all_special_ids}
        ids = [i for text in _TRIED for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        known = not special.issuperset(ids) or len(tokenizer) > len(special)
    except Exception as error:  # tokenizers raises exceptions of no class of its own
        check_tokenizer_files(folder, where)
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{where}: its tokenizer does not load: {reason}") from error
    if not known:
        raise UserError(
            f"{where}: its tokenizer knows no text: there is no vocabulary in it (tokenizer.json, "
            "tokenizer.model or vocab.json); put the files of the tokenizer that belongs to the "
            "weights into one folder with them"
        )
    return tokenizer


def check_tokenizer_files(folder: Path, where: str) -> None:
    """Check the files of a tokenizer as far as it can be done without loading it.

    Raises:
        UserError: a file is damaged or a Git LFS pointer, or needs a package that is not installed.
    """
    for name in JSON_FILES:
        if (folder / name).is_file():
            content = read_json_object(folder / name, where)
            if name == "tokenizer.json" and not isinstance(content.get("model"), dict):
                raise UserError(
                    f"{where}: {folder / name} has no model of a tokenizer; download it again"
                )
    for file in (file for pattern in TEXT_FILES for file in sorted(folder.glob(pattern))):
        refuse_lfs_pointer(file, where)
    for name, package in CONVERTERS.items():
        if not (folder / name).is_file():
            continue
        refuse_lfs_pointer(folder / name, where)
        if not (folder / "tokenizer.json").is_file() and find_spec(package) is None:
            raise UserError(
                f"{where}: its tokenizer is {name} alone, which needs the package {package}, not "
                f"installed here; install it (pip install {package}), or put the tokenizer.json "
                "of the model beside it"
            )


def check_has_tokenizer(files: Collection[str], where: str) -> None:
    """Check that there is a file that a tokenizer could be built from.

    files: the names of a folder's or repository's own files.

    Raises:
        UserError: there is none; begins with `where`.
    """
    if not any(map(_TOKENIZER.fullmatch, files)):
        raise UserError(
            f"{where}: no tokenizer there (no tokenizer.json, tokenizer.model or vocab.json); put "
            "the files of the tokenizer that belongs to the weights into one folder with them"
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
