"""Apply a model's own chat template: code of others, which may be broken, fail or never end."""

import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from string import ascii_letters
from typing import Any

from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError
from transformers import PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.core.text_checks import find_text_problem

# Of one chat; templates take milliseconds.
SECONDS = 20.0
# What templates that ask for today's date are told, so that prompts do not depend on the day they
# are made: the default of Llama 3.1's template.
TODAY = datetime(2024, 7, 26)
# Put before a template, it hides transformers' function of that name. trim_blocks eats the newline.
DATE_MACRO = (
    "{%- macro strftime_now(format) -%}{%- set date = namespace(text=format) -%}"
    "{%- for code, value in date_codes -%}{%- set date.text = date.text.replace(code, value) -%}"
    "{%- endfor -%}{{- date.text -}}{%- endmacro %}\n"
)
# What a list of parts looks like in the text of a template that takes texts alone.
_PRINTED_PART = re.compile(r"""[{]['"]type['"]: ['"]text['"]""")

Chat = Sequence[Mapping[str, Any]]


class _TemplateFaultError(Exception):
    """What a template does wrong, to follow its name. retry: another form of content may do."""

    def __init__(self, what: str, retry: bool = True):
        super().__init__(what)
        self.retry = retry


def render_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Mapping[str, str]]],
    seconds: float = SECONDS,
) -> list[str]:
    """The text of every chat, up to where the model's answer begins.

    Templates that take a message's content as a list of parts are given one part.

    chats: lists of messages {role, content}. seconds: the longest time for one of them.

    Raises:
        UserError: a template that cannot be read, fails, takes too long, or leaves out what is
            asked or the system message, with the model's name and the reason.
    """
    try:
        return _render_all(tokenizer, chats, seconds)
    except _TemplateFaultError as error:
        refusal = _refusal(tokenizer, str(error))
        if not error.retry:
            raise refusal from None
    try:
        texts = _render_all(tokenizer, list(map(_in_parts, chats)), seconds)
    except _TemplateFaultError:
        raise refusal from None
    if any(map(_PRINTED_PART.search, texts)):
        raise refusal
    return texts


def _render_all(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], seconds: float
) -> list[str]:
    texts = [_render(tokenizer, chat, seconds) for chat in chats]
    for text in texts:
        if not text.strip():
            raise _TemplateFaultError("returns an empty text")
        if problem := find_text_problem(text):
            raise _TemplateFaultError(f"returns a text that {problem}", retry=False)
    for number, message in enumerate(chats[0] if chats else ()):
        changed = [*chats[0][:number], _change(message), *chats[0][number + 1 :]]
        if _render(tokenizer, changed, seconds) == texts[0]:
            if message["role"] == "system":
                raise _TemplateFaultError("leaves out the system message, prompt.system")
            raise _TemplateFaultError("leaves out the question: every prompt is the same")
    return texts


def _change(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with another content of the same form."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": f"x {content} x"}
    return {**message, "content": [{**part, "text": f"x {part['text']} x"} for part in content]}


def _in_parts(chat: Chat) -> list[dict[str, Any]]:
    """The chat with the content of every message as a list of one part."""
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in chat]


def _date_codes() -> list[tuple[str, str]]:
    """(code of strftime, what it stands for) of `TODAY`; %% comes last."""
    codes = [f"%{flag}{letter}" for letter in ascii_letters for flag in ("", "-")]
    return [*((code, TODAY.strftime(code)) for code in codes), ("%%", "%")]


def _render(tokenizer: PreTrainedTokenizerBase, chat: Chat, seconds: float) -> str:
    system = any(message["role"] == "system" for message in chat)
    lines_before, dated = 0, {}
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        dated = {"chat_template": DATE_MACRO + template, "date_codes": _date_codes()}
        lines_before = 1
    try:
        with _time_limit(seconds):
            return tokenizer.apply_chat_template(
                list(chat), tokenize=False, add_generation_prompt=True, **dated
            )
    except TimeoutError:
        what = f"takes more than {seconds:g} seconds for one question"
        raise _TemplateFaultError(what, retry=False) from None
    except TemplateSyntaxError as error:
        line = max(error.lineno - lines_before, 1)
        what = f"is no valid Jinja template (line {line}: {_one_line(error)})"
    except SecurityError as error:
        what = f"does what no template may do ({_one_line(error)})"
    except UndefinedError as error:
        what = f"uses what is not defined ({_one_line(error)})"
    except TemplateError as error:
        hint = "; it may take no system message, prompt.system" if system else ""
        what = f"refuses the question ({_one_line(error)}){hint}"
    except Exception as error:  # whatever the template's code may raise
        what = f"fails ({type(error).__name__}: {_one_line(error)})"
    raise _TemplateFaultError(what)


def _refusal(tokenizer: PreTrainedTokenizerBase, what: str) -> UserError:
    return UserError(
        f"config: prompt.style: chat: the chat template of {tokenizer.name_or_path} {what}; "
        "correct it there, or use few_shot or completion"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or "without a message"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block once it has taken so long; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
