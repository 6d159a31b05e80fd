import numpy as np
import pytest
import torch

import tiny
from llm_figures.core.errors import UserError
from llm_figures.inference.options import Prompt
from llm_figures.inference.prompts import fill, tokenize_questions, tokenize_texts, too_long
from llm_figures.probe.p_true import compute_p_true, split_choices

PROMPT = {
    "preamble": "Q: one?\nA: {question}\n",
    "template": "Q: {question}\nA:",
    "user": "Answer: {question}",
}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Q: one?\nA: {question}\nQ: Who {is} it?\nA:"),
        ({"style": "completion"}, "Q: Who {is} it?\nA:"),
        ({"style": "chat"}, "<user>Answer: Who {is} it?\n<assistant>"),
        (
            {"style": "chat", "system": "Be brief."},
            "<system>Be brief.\n<user>Answer: Who {is} it?\n<assistant>",
        ),
    ],
)
def test_a_question_is_asked_in_its_style(tokenizer, changes, expected):
    tokenizer.chat_template = CHAT
    (ids,) = tokenize_questions(tokenizer, Prompt(**PROMPT | changes), ["Who {is} it?"])
    assert tokenizer.decode(ids) == expected


def test_chat_without_a_template_is_one_clear_line(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"prompt.style: chat, but .* no chat template"):
        tokenize_questions(tokenizer, Prompt(style="chat"), ["Who?"])


def test_stops():
    assert Prompt().stop_strings() == ("\n",)
    assert Prompt(style="chat").stop_strings() == ()
    assert Prompt(style="chat", stop=["a", "b"]).stop_strings() == ("a", "b")


SHARED = {"style", "stop", "max_new_tokens", "temperature"}


@pytest.mark.parametrize(
    ("prompt", "keys"),
    [
        (Prompt(), {"preamble", "template"}),
        (Prompt(style="completion"), {"template"}),
        (Prompt(style="chat"), {"system", "user"}),
        (Prompt(temperature=0.5), {"preamble", "template", "top_p", "seed"}),
    ],
    ids=["few_shot", "completion", "chat", "sampled"],
)
def test_options_that_change_no_answer_are_not_relevant(prompt, keys):
    assert set(prompt.relevant()) == SHARED | keys


def test_only_few_shot_prompts_show_a_preamble():
    assert Prompt().shown_preamble() == Prompt().preamble
    assert Prompt(style="completion").shown_preamble() == ""


def test_braces_within_a_part_stay():
    assert fill("{a} {b} {c}", a="{b}", b="{a}") == "{b} {a} {c}"


def test_what_does_not_fit_the_context_says_so():
    assert too_long([1, 2, 3], 4, 7) == ""
    assert too_long([1, 2, 3], 4, None) == ""
    assert "3 tokens and an answer of up to 5 exceed the model's context of 7" in too_long(
        [1, 2, 3], 5, 7
    )


def test_p_true_is_the_share_of_true_in_a_plain_pass(tokenizer):
    model = tiny.model()
    texts = ["Is it one? true or false?", "Is it the lamp? true or false?", "Is it? true or false?"]
    ids = tokenize_texts(tokenizer, texts)
    begun, true, false = split_choices(tokenizer, " yes", "no")
    assert begun == []
    found = {
        index: share
        for batch, shares in compute_p_true(model, ids, true, false, batch_size=2)
        for index, share in zip(batch, shares, strict=True)
    }
    for index, prompt in enumerate(ids):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        expected = torch.softmax(logits[[true, false]], dim=0)[0].item()
        assert found[index] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("length", [1, 2, 9, 18, 19, 20])
def test_a_prompt_about_p_true_may_fill_the_context(length):
    model = tiny.model("gpt2", max_position_embeddings=20)
    prompt = np.random.default_rng(length).integers(5, 300, length).tolist()
    ((_, found),) = compute_p_true(model, [prompt], 5, 6, batch_size=1)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    assert found == pytest.approx([torch.softmax(logits[[5, 6]], dim=0)[0].item()], abs=1e-5)


def test_choices_are_compared_where_they_part(tokenizer):
    begun, true, false = split_choices(tokenizer, " True", " Tale")
    assert tokenizer.decode(begun) == " T"
    assert tokenizer.decode([true]).startswith("r")
    assert tokenizer.decode([false]).startswith("a")
    with pytest.raises(
        UserError, match=r"probe.p_true: ' yes' and ' yes, it is' do not differ in a token"
    ):
        split_choices(tokenizer, " yes", " yes, it is")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_p_true_of_a_model_of_no_numbers_is_refused(tokenizer, value):
    """Also where the logits of the two words are numbers."""
    model = tiny.model()
    forward = model.lm_head.forward

    def spoilt(states):
        logits = forward(states)
        logits[1, :, 200] = float(value)
        return logits

    model.lm_head.forward = spoilt
    ids = tokenize_texts(tokenizer, ["the lamp", "the lake", "the tree"])
    ids = [one[:2] for one in ids]
    with pytest.raises(UserError) as caught:
        list(compute_p_true(model, ids, 5, 6, batch_size=3, keys=[7, 7, 7]))
    assert "logits that are not finite where P(true) of the answer to question 7 is ask" in str(
        caught.value
    )
