"""The class of transformers that a model is loaded with, and the config of its text decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_figures.models.model_files import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def find_auto_class(config: PreTrainedConfig) -> type:
    """The auto class that builds a model with its language-model head.

    It is that of causal language models or, for types that are none, of models that read images or
    sound beside text (Llava, Qwen2-VL). These are built whole: the conversion of their checkpoints
    and their positions are those of the class itself, and text alone passes their decoder only.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    if (
        kind in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
        and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    ):
        return AutoModelForMultimodalLM
    return AutoModelForCausalLM


def read_text_config(folder: Path, where: str, trust_remote_code: bool = False) -> dict[str, Any]:
    """The config of a folder's text decoder, with what its config.json leaves to the defaults.

    Raises:
        UserError: config.json is no JSON object; begins with `where`.
    """
    from transformers import AutoConfig

    written = read_json_object(folder / "config.json", where)
    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
        text = config.get_text_config().to_dict()
    except Exception:  # families validate with exceptions of any class
        text = written.get("text_config", written)
    of_all = {key: written[key] for key in ("dtype", "torch_dtype") if written.get(key)}
    own = {key: value for key, value in text.items() if value is not None}
    return {"quantization_config": written.get("quantization_config"), **of_all, **own}
