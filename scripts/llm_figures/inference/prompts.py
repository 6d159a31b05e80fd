"""Questions as the model is asked them: plain text, or the model's own chat template."""

import re
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from llm_figures.core.errors import UserError


def question_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Mapping, questions: Sequence[str]
) -> list[list[int]]:
    """Token ids of every question, asked as the config's `prompt` says.

    Raises:
        UserError: `style: chat` with a tokenizer that has no chat template.
    """
    if prompt["style"] == "chat":
        return _chat_ids(tokenizer, prompt, questions)
    preamble = prompt["preamble"] if prompt["style"] == "few_shot" else ""
    return plain_ids(
        tokenizer,
        [preamble + fill(prompt["template"], question=question) for question in questions],
    )


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that the model goes on from, with the tokenizer's own special tokens."""
    return [tokenizer(text)["input_ids"] for text in texts]


def _chat_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Mapping, questions: Sequence[str]
) -> list[list[int]]:
    if not tokenizer.chat_template:
        raise UserError(
            "config: prompt.style: chat, but the model's tokenizer has no chat template; "
            "use few_shot or completion"
        )
    system = [{"role": "system", "content": prompt["system"]}] if prompt["system"] else []
    return [
        # The template brings its own special tokens.
        tokenizer(
            tokenizer.apply_chat_template(
                [*system, {"role": "user", "content": fill(prompt["user"], question=question)}],
                tokenize=False,
                add_generation_prompt=True,
            ),
            add_special_tokens=False,
        )["input_ids"]
        for question in questions
    ]


def stop_strings(prompt: Mapping) -> list[str]:
    """What ends an answer: the config's `prompt.stop` with `auto` resolved."""
    stop = prompt["stop"]
    if stop == "auto":
        return [] if prompt["style"] == "chat" else ["\n"]
    return stop if isinstance(stop, list) else [stop]


def fill(template: str, **parts: str) -> str:
    """`template` with {name} replaced by each part in one go, so that braces in a part stay."""
    names = "|".join(map(re.escape, parts))
    return re.sub(rf"\{{({names})\}}", lambda match: parts[match[1]], template)


def too_long(prompt_ids: Sequence[int], max_new_tokens: int, longest: int | None) -> str:
    """Why a prompt does not fit the model's context of `longest` tokens; "" if it does."""
    if longest is None or len(prompt_ids) + max_new_tokens <= longest:
        return ""
    return (
        f"the prompt's {len(prompt_ids)} tokens and an answer of up to {max_new_tokens} "
        f"exceed the model's context of {longest}"
    )
