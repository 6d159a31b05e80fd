import pytest

import tiny
from llm_figures.core.errors import UserError
from llm_figures.inference.chat_templates import render_chats
from llm_figures.inference.options import Prompt
from llm_figures.inference.prompts import tokenize_questions

GOOD = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture
def tokenizer():
    made = tiny.tokenizer()
    made.name_or_path = "some/model"
    return made


def chats(*questions, system=None):
    first = [{"role": "system", "content": system}] if system else []
    return [[*first, {"role": "user", "content": question}] for question in questions]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (GOOD + "\n{% if %}", "is no valid Jinja template (line 2: Expected an expression, got"),
        ("{% for m in messages %}", "is no valid Jinja template (line 1: Unexpected end of"),
        ("{{ raise_exception('not me') }}", "refuses the question (not me);"),
        ("{{ messages.__class__ }}", "returns an empty text"),  # Jinja prints nothing for it
        ("{{ ''.__class__.__mro__ }}", "does what no template may do (access to attribute"),
        ("{{ ask(messages) }}", "uses what is not defined ('ask' is undefined)"),
        ("{{ messages[0].content.role.x }}", "uses what is not defined ("),
        ("{{ messages | nonsense }}", "is no valid Jinja template (line 1: No filter named"),
        ("{{ 1 // 0 }}", "fails (ZeroDivisionError: "),
        ("{{ messages + 1 }}", "fails (TypeError: "),
        ("{% for n in range(10 ** 9) %}{% endfor %}", "fails (OverflowError: Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails (RecursionError: "),
        ("{# nothing #}  ", "returns an empty text"),
        ("<user>hello<assistant>", "leaves out the question: every prompt is the same"),
    ],
    ids=[
        *("syntax", "open", "raises", "class", "mro", "function", "field", "filter", "zero"),
        *("type", "range", "recursion", "empty", "deaf"),
    ],
)
def test_a_template_that_fails_is_one_line_with_model_and_reason(tokenizer, template, reason):
    tokenizer.chat_template = template
    with pytest.raises(UserError) as caught:
        tokenize_questions(tokenizer, Prompt(style="chat"), ["Who?", "What?"])
    line = str(caught.value)
    assert line.startswith("config: prompt.style: chat: the chat template of some/model " + reason)
    assert line.endswith("; correct it there, or use few_shot or completion")
    assert "\n" not in line


def test_a_template_that_does_not_end_is_stopped(tokenizer):
    loop = "{% for n in range(99999) %}"
    tokenizer.chat_template = f"{loop}{loop}{'{% endfor %}' * 2}"
    with pytest.raises(UserError, match=r"some/model takes more than 0.2 seconds for one question"):
        render_chats(tokenizer, chats("Who?"), seconds=0.2)
    tokenizer.chat_template = GOOD  # and the next one is not
    assert render_chats(tokenizer, chats("Who?"), seconds=5) == ["<user>Who?"]


def test_a_refusal_of_the_system_message_says_so(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }}{% endfor %}"
    )
    assert render_chats(tokenizer, chats("Who?", "What?")) == ["Who?", "What?"]
    with pytest.raises(UserError, match=r"\(no system\); it may take no system message, prompt.sy"):
        render_chats(tokenizer, chats("Who?", system="Be brief."))


def test_equal_questions_may_have_equal_prompts(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | trim }}{% endfor %}"
    assert render_chats(tokenizer, chats("Who?", "Who? ")) == ["Who?", "Who?"]
