"""Prompts as token ids: plain text, or the model's own chat template."""

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.inference.chat_templates import render_chats
from llm_figures.inference.options import QuestionFormat


def tokenize_questions(
    tokenizer: PreTrainedTokenizerBase, prompt: QuestionFormat, questions: Sequence[str]
) -> list[list[int]]:
    """Token ids of every question in the format of `prompt`.

    Raises:
        UserError: `style: chat` with a tokenizer that has no chat template, or one that fails (see
            `render_chats`).
    """
    # A chat template brings its own special tokens.
    own_tokens = prompt.style != "chat"
    return [
        tokenizer(text, add_special_tokens=own_tokens)["input_ids"]
        for text in render_questions(tokenizer, prompt, questions)
    ]


def render_questions(
    tokenizer: PreTrainedTokenizerBase, prompt: QuestionFormat, questions: Sequence[str]
) -> list[str]:
    """The text of every question in the format of `prompt`, up to where its answer begins.

    Raises:
        UserError: see `tokenize_questions`.
    """
    if prompt.style == "chat":
        return _render_chats(tokenizer, prompt, questions)
    preamble = prompt.shown_preamble()
    return [preamble + fill(prompt.template, question=question) for question in questions]


def tokenize_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that the model continues, with the tokenizer's own special tokens."""
    return [tokenizer(text)["input_ids"] for text in texts]


def _render_chats(
    tokenizer: PreTrainedTokenizerBase, prompt: QuestionFormat, questions: Sequence[str]
) -> list[str]:
    if not tokenizer.chat_template:
        raise UserError(
            "config: prompt.style: chat, but the model's tokenizer has no chat template; "
            "use few_shot or completion"
        )
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    chats = [
        [*system, {"role": "user", "content": fill(prompt.user, question=question)}]
        for question in questions
    ]
    return render_chats(tokenizer, chats)


def fill(template: str, **parts: str) -> str:
    """`template` with {name} replaced by each part in one pass, so that braces in a part stay."""
    names = "|".join(map(re.escape, parts))
    return re.sub(rf"\{{({names})\}}", lambda match: parts[match[1]], template)


def too_long(prompt_ids: Sequence[int], max_new_tokens: int, context: int | None) -> str:
    """Why a prompt and its answer exceed the model's context; "" if they fit.

    context: in tokens; None where it is not known.
    """
    if context is None or len(prompt_ids) + max_new_tokens <= context:
        return ""
    return (
        f"the prompt's {len(prompt_ids)} tokens and an answer of up to {max_new_tokens} "
        f"exceed the model's context of {context}"
    )
