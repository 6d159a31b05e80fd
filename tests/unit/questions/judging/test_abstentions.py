import pytest

from judged_answers import read_judged_answers
from llm_figures.questions.facts import build_facts
from llm_figures.questions.judging.abstentions import abstains


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know.",
        "I do not know the answer",
        "Don't know",
        "Sorry, I cannot answer that.",
        "I'm not sure.",
        "I am unsure",
        "As an AI language model, I am not able to answer.",
        "It is unknown",
        "Unknown",
        "N/A - not known",
        "No idea.",
        "There is not enough information to say.",
        "The passage does not say.",
        "It cannot be determined",
        "Nobody knows",
        "Impossible to say",
        "我不知道。",
        "作为一个人工智能语言模型，我无法回答这个问题。",
        "わかりません",
        "모르겠습니다",
        "Не знаю.",
        "No lo sé.",
        "Je ne sais pas",
        "Ich weiß es nicht.",
        "Não sei",
        "Non lo so",
        "لا أعرف",
        "मुझे नहीं पता",
        "Ik weet het niet",
        "Nie wiem",
        "Jag vet inte",
        "bilmiyorum",
        "Nevím",
    ],
)
def test_an_answer_that_declines_abstains(answer):
    assert abstains(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Na",
        "Paris, but I'm not sure",
        "I'm not sure, but I think it is Paris",
        "I don't know, maybe Paris",
        "I apologize for the confusion. The answer is Paris.",
        "I have no doubt it is Paris",
        "Paris. Please check a map",
        "Columbus was not able to find India",
        "He could not be found guilty",
        "不确定性原理",
        "抱歉，答案是北京",
        "Not only Paris",
        "The Unknown Soldier",
        "no",
        "",
    ],
)
def test_an_answer_that_commits_itself_does_not(answer):
    assert not abstains(answer)


def test_no_right_answer_abstains():
    """Neither those of the built-in facts nor those of the labelled answers: Na is sodium."""
    right = {alias for aliases in build_facts()["aliases"] for alias in aliases}
    right |= {alias for gold in read_judged_answers()["gold"] for alias in gold}
    assert [alias for alias in right if abstains(alias)] == []


def test_no_beginning_of_a_right_answer_abstains():
    facts = build_facts()
    whole = facts["frame"] + " " + facts["aliases"].str[0] + "."
    assert [answer for answer in whole if abstains(answer)] == []
