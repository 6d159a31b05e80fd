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


def test_one_question_is_enough_to_see_that_it_is_left_out(tokenizer):
    tokenizer.chat_template = "<user>hello<assistant>"
    with pytest.raises(UserError, match="leaves out the question: every prompt is the same"):
        render_chats(tokenizer, chats("Who?"))


def test_a_system_message_that_is_left_out_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}"
    )
    assert render_chats(tokenizer, chats("Who?", "What?")) == ["[Who?]", "[What?]"]
    with pytest.raises(UserError, match=r"leaves out the system message, prompt\.system; correct"):
        render_chats(tokenizer, chats("Who?", "What?", system="Be brief."))
    # a default system message is no reason to accept it
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}Be kind.{% endif %}" + tokenizer.chat_template
    )
    with pytest.raises(UserError, match="leaves out the system message"):
        render_chats(tokenizer, chats("Who?", system="Be brief."))
    tokenizer.chat_template = GOOD
    assert render_chats(tokenizer, chats("Who?", system="Be brief.")) == [
        "<system>Be brief.<user>Who?"
    ]


@pytest.mark.parametrize(
    ("code", "date"),
    [
        ("%d %b %Y", "26 Jul 2024"),
        ("%Y-%m-%d", "2024-07-26"),
        ("%B %-d, %Y, %A 100%%", "July 26, 2024, Friday 100%"),
        ("%H:%M", "00:00"),
    ],
)
def test_the_date_in_a_prompt_is_not_that_of_the_day(tokenizer, code, date):
    asked = f"{{% if strftime_now is defined %}}{{{{ strftime_now('{code}') }}}}{{% endif %}}|"
    tokenizer.chat_template = asked + GOOD
    assert render_chats(tokenizer, chats("Who?")) == [f"{date}|<user>Who?"]
    # also where it is asked within a macro, and with white space that Jinja strips or keeps
    inside = "{% macro head() %}" + asked + "{% endmacro %}{{ head() }}" + GOOD
    tokenizer.chat_template = "  {% if true %}\n" + inside + "\n  {% endif %}"
    assert render_chats(tokenizer, chats("Who?")) == [f"{date}|<user>Who?"]
    tokenizer.chat_template = "\n " + asked + GOOD
    assert render_chats(tokenizer, chats("Who?")) == [f"\n{date}|<user>Who?"]


def test_the_line_of_an_error_is_that_of_the_template_itself(tokenizer):
    tokenizer.chat_template = "{{ strftime_now('%Y') }}" + GOOD + "\n{% if %}"
    with pytest.raises(UserError, match=r"is no valid Jinja template \(line 2: Expected"):
        render_chats(tokenizer, chats("Who?"))


def test_a_template_may_take_contents_in_parts(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}"
        "{{ part.text }}{% endfor %}{% endfor %}"
    )
    assert render_chats(tokenizer, chats("Who?", "What?", system="Be brief.")) == [
        "<system>Be brief.<user>Who?",
        "<system>Be brief.<user>What?",
    ]
    tokenizer.chat_template = (  # as Llava's, which fails on a text
        "{% for m in messages %}{% for part in m.content | selectattr('type', 'equalto', 'text') %}"
        "{{ part['text'] + '!' }}{% endfor %}{% endfor %}"
    )
    assert render_chats(tokenizer, chats("Who?")) == ["Who?!"]


def test_parts_are_never_printed_as_a_list(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content if m.content is not string }}{% endfor %}"
    )
    with pytest.raises(UserError, match="returns an empty text"):
        render_chats(tokenizer, chats("Who?"))


def test_half_a_character_in_a_template_is_one_line(tokenizer):
    tokenizer.chat_template = GOOD + "{{ '\ud83d' }}"
    with pytest.raises(UserError, match=r"returns a text that holds a lone surrogate \(.ud83d\)"):
        tokenize_questions(tokenizer, Prompt(style="chat"), ["Who?"])
