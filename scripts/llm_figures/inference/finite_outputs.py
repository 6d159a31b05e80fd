"""A model that computes no numbers is refused, by name."""

import math
from collections.abc import Callable, Iterable

from transformers import PreTrainedModel

from llm_figures.core.errors import UserError


def check_logits(
    model: PreTrainedModel, values: Iterable[float], name: Callable[[int], str]
) -> None:
    """Check numbers that follow from all logits of a prediction, such as its log-probability.

    They are not finite if a logit is NaN or +inf, or if all are -inf. Some models give single
    entries of the vocabulary a logit of -inf; that is no fault.

    values: one for each prediction. name: from its index to where it is made, for the message.

    Raises:
        UserError: a value that is not finite; names the model, the prediction and the dtype.
    """
    check_outputs(model, values, lambda index: f"logits that are not finite {name(index)}")


def check_outputs(
    model: PreTrainedModel, values: Iterable[float], describe: Callable[[int], str]
) -> None:
    """Check numbers that a model computed.

    describe: from the index of a value that is not finite to what the model gives.

    Raises:
        UserError: a value that is not finite.
    """
    for index, value in enumerate(values):
        if not math.isfinite(value):
            dtype = str(model.dtype).split(".")[-1]
            raise UserError(
                f"{_name(model)} gives {describe(index)}, computed in {dtype}; {advise(dtype)}"
            )


def _name(model: PreTrainedModel) -> str:
    if model.name_or_path:
        return f"the model in {model.name_or_path}"
    return f"the model of type {model.config.model_type}"


def advise(dtype: str) -> str:
    """What to do about numbers that are not finite, computed in a dtype, such as "float16"."""
    wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}
    if dtype in wider:
        return f"set dtype to {wider[dtype]}, or check the weights"
    return "its weights hold NaN or infinite numbers, or are not those of this architecture"
