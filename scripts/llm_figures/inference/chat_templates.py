"""Apply a model's own chat template: code of others, which may be broken, fail or never end."""

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError
from transformers import PreTrainedTokenizerBase

from llm_figures.core.errors import UserError

# Of one chat; templates take milliseconds.
SECONDS = 20.0


def render_chats(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[Mapping[str, str]]],
    seconds: float = SECONDS,
) -> list[str]:
    """The text of every chat, up to where the model's answer begins.

    chats: lists of messages {role, content}. seconds: the longest time for one of them.

    Raises:
        UserError: a template that cannot be read, fails, takes too long, or leaves out what is
            asked, with the model's name and the reason.
    """
    texts = [_render(tokenizer, chat, seconds) for chat in chats]
    if not all(text.strip() for text in texts):
        raise _refusal(tokenizer, "returns an empty text")
    if len(set(texts)) == 1 < len({chat[-1]["content"].strip() for chat in chats}):
        raise _refusal(tokenizer, "leaves out the question: every prompt is the same")
    return texts


def _render(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[Mapping[str, str]], seconds: float
) -> str:
    system = any(message["role"] == "system" for message in chat)
    try:
        with _time_limit(seconds):
            return tokenizer.apply_chat_template(
                list(chat), tokenize=False, add_generation_prompt=True
            )
    except TimeoutError:
        what = f"takes more than {seconds:g} seconds for one question"
    except TemplateSyntaxError as error:
        what = f"is no valid Jinja template (line {error.lineno}: {_one_line(error)})"
    except SecurityError as error:
        what = f"does what no template may do ({_one_line(error)})"
    except UndefinedError as error:
        what = f"uses what is not defined ({_one_line(error)})"
    except TemplateError as error:
        hint = "; it may take no system message, prompt.system" if system else ""
        what = f"refuses the question ({_one_line(error)}){hint}"
    except Exception as error:  # whatever the template's code may raise
        what = f"fails ({type(error).__name__}: {_one_line(error)})"
    raise _refusal(tokenizer, what)


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
