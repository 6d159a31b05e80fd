import pandas as pd
import pytest

from llm_figures.answers import judged_answers
from llm_figures.spans import exact_answer, is_correct
from llm_figures.tokens import NAMED_TOKENS, named_positions


@pytest.mark.parametrize(
    ("answer", "frame", "expected"),
    [
        (" The capital of Peru is Lima.", "The capital of Peru is", "Lima"),
        ("the capital  of Peru is:  Lima", "The capital of Peru is", "Lima"),
        ("The currency of Peru is the sol.", "The currency of Peru is", "sol"),
        (
            "The capital of Grenada is St. George's. It is small.",
            "The capital of Grenada is",
            "St. George's",
        ),
        (
            "The capital of the US is Washington D.C. and so on. More.",
            "The capital of the US is",
            "Washington D.C. and so on",
        ),
        ("The answer is: Paris.", "The answer is:", "Paris"),
        ("The symbol of carbon is C. It is in coal.", "The symbol of carbon is", "C"),
        ("He was George W. Bush. Yes.", "He was", "George W. Bush"),
        ("The atomic number of gold is 79.", "The atomic number of gold is", "79"),
        ("Its value is 3.14. Yes.", "Its value is", "3.14"),
        ("The capital of Peru isn't known", "The capital of Peru is", None),
        ("Lima is the capital.", "The capital of Peru is", None),
        ("The capital of Peru is", "The capital of Peru is", None),
        ("The capital of Peru is ...", "The capital of Peru is", None),
        (' "Lima", I think. Or not.', None, 'Lima", I think'),
        ("Lima\nQ: next", None, "Lima"),
        ("", None, None),
    ],
)
def test_the_exact_answer_is_what_follows_the_frame(answer, frame, expected):
    span = exact_answer(answer, frame)
    assert (span and answer[slice(*span)]) == expected


def test_spans_do_not_depend_on_the_right_answer():
    questions = pd.DataFrame(
        {
            "question_id": [0, 1, 2],
            "question": ["a", "b", "c"],
            "frame": ["It is", "It is", None],
            "group": None,
        }
    )
    generations = pd.DataFrame(
        {"question_id": [0, 1, 2], "answer": ["It is Lima.", "Lima it is.", "I say Lima. Cusco."]}
    )
    found = [
        judged_answers(questions.assign(aliases=[[alias]] * 3), generations)
        for alias in ("Lima", "Cusco", "nothing like it")
    ]
    assert [judged["correct"].tolist() for judged in found] == [
        [True, False, True],
        [False] * 3,
        [False] * 3,
    ]
    spans = ["valid", "span_start", "span_end", "exact_answer"]
    for judged in found[1:]:
        pd.testing.assert_frame_equal(judged[spans], found[0][spans])


@pytest.mark.parametrize(
    ("exact", "aliases", "expected"),
    [
        ("Brasilia", ["Brasília"], True),
        ("the Fijian dollar", ["Dollar"], True),
        ("Guinea-Bissau", ["Guinea Bissau"], True),
        ("St. George's", ["St George’s"], True),
        ("Niger", ["Nigeria"], False),
        ("Nigeria", ["Niger"], False),
        ("17", ["7"], False),
        ("Paris, France", ["Lyon", "Paris"], True),
        ("the", ["a"], False),
        ("", [""], False),
    ],
)
def test_correctness_is_whole_words_of_any_alias(exact, aliases, expected):
    assert is_correct(exact, aliases) is expected


def test_named_positions_of_an_answer():
    #        The  capital  is   Li   ma   .
    starts = [0, 3, 11, 14, 17, 19]
    ends = [3, 11, 14, 17, 19, 20]
    positions = named_positions(100, starts, ends, (15, 19))
    assert positions == {
        "last_q": 99,
        "first_answer": 100,
        "second_answer": 101,
        "exact_answer_before_first": 102,
        "exact_answer_first": 103,
        "exact_answer_last": 104,
        "exact_answer_after_last": 105,
        **{str(back): 106 + back for back in range(-6, 0)},
    }
    assert set(positions) <= set(NAMED_TOKENS)


def test_a_short_answer_has_no_early_tokens_and_never_those_of_the_question():
    positions = named_positions(10, [0], [4], (0, 4))
    assert positions == {
        "last_q": 9,
        "first_answer": 10,
        "exact_answer_first": 10,
        "exact_answer_last": 10,
        "-1": 10,
    }
