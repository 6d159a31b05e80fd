"""Checks of the values in a config.json, before anything is built from them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_figures.core.errors import UserError
from llm_figures.models.model_info import text_part
from llm_figures.models.safetensors_files import read_header, read_index, weight_files

SECTIONS = (
    *("text_config", "thinker_config", "language_config", "llm_config"),
    *("vision_config", "audio_config"),
)
LAYERS = ("num_hidden_layers", "n_layer")
COUNTS = (
    *LAYERS,
    *("num_attention_heads", "n_head", "num_key_value_heads"),
    *("hidden_size", "n_embd", "vocab_size"),
)
# No model has so many; a class with more takes minutes and all memory to build.
MOST_LAYERS = 1000
# Types with fewer blocks than layers: they pass one several times, or count two layers to it.
FEWER_BLOCKS = ("hrm_text", "longcat_flash")


def check_config_values(config: Mapping[str, Any], where: str) -> None:
    """Check the sizes in a config.json, and that its sections are objects.

    Raises:
        UserError: names the key; begins with `where`.
    """
    for key in SECTIONS:
        if config.get(key) is not None and not isinstance(config[key], Mapping):
            raise UserError(
                f"{where}: config.json: {key}: {_show(config[key])} is no object in braces; "
                "download it again"
            )
    text = text_part(config)
    if text is not config:
        check_config_values(text, f"{where}: text part")
        return
    for key in COUNTS:
        value = config.get(key)
        if value is None or isinstance(value, list):  # a list has one number for each layer
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(
                f"{where}: config.json: {key}: {_show(value)} is no whole number of at least 1; "
                "download it again"
            )
        if key in LAYERS and value > MOST_LAYERS:
            raise UserError(
                f"{where}: config.json: {key}: {_show(value)} is more than any model has "
                f"({MOST_LAYERS}); download it again"
            )


def check_layers(folder: Path, config: Mapping[str, Any], where: str) -> None:
    """Check that a folder's safetensors files hold as many blocks as its config.json says.

    Files that are missing or damaged are not judged here.

    Raises:
        UserError: names the key and the blocks; begins with `where`.
    """
    from llm_figures.models.weight_checks import OTHER_TOWER

    text = text_part(config)
    key = next((key for key in LAYERS if isinstance(text.get(key), int)), None)
    if key is None or text.get("model_type") in FEWER_BLOCKS:
        return
    try:
        files = weight_files(folder, read_index(folder, where))
        names = {name for file in files for name in read_header(file, where)}
    except UserError:
        return
    stacks: dict[str, int] = {}
    for name in names:
        for number in re.finditer(r"(?:^|(?<=\.))\d+(?=\.)", name):
            start = name[: number.start()]
            if not start.endswith("experts.") and not OTHER_TOWER.search(start):
                stacks[start] = max(stacks.get(start, 0), int(number[0]) + 1)
    if not stacks:
        return
    start, blocks = max(stacks.items(), key=lambda item: item[1])
    if blocks < text[key]:
        raise UserError(
            f"{where}: config.json: {key}: {text[key]}, but the weights have only {blocks} blocks "
            f"({start}0 to {start}{blocks - 1}); complete the download, or take the config.json "
            "that belongs to them"
        )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
