import pytest

from judged_answers import is_right
from llm_figures.probe.token_positions import NAMED_TOKENS, locate_named_tokens
from llm_figures.questions.options import ExactAnswer
from llm_figures.questions.spans import find_exact_answer, overlapping


def locate(answer, frame=None, quote=None, **options):
    """The span of the exact answer, or None."""
    return find_exact_answer(answer, frame, ExactAnswer(**options), quote)[0]


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
        ("Its value is -5. Yes.", "Its value is", "-5"),
        ("Its value is: −0.5.", "Its value is", "−0.5"),
        ("Its value is about ...5", "Its value is about", "5"),
        ("Its value is .5", "Its value is", ".5"),
        ("It is 3-5", "It is 3", "5"),
        ("It is – Lima", "It is", "Lima"),
        ("The capital of Peru isn't known", "The capital of Peru is", None),
        ("Lima is the capital.", "The capital of Peru is", None),
        ("The capital of Peru is", "The capital of Peru is", None),
        ("The capital of Peru is ...", "The capital of Peru is", None),
        ("The capital of Peru is the ...", "The capital of Peru is", None),
        (' "Lima", I think. Or not.', None, 'Lima", I think'),
        ("Lima\nQ: next", None, "Lima"),
        (" \nLima. Or not.", None, "Lima"),
        ("答えは東京です。他は知りません。", None, "答えは東京です"),
        ("दिल्ली।", None, "दिल्ली"),
        ("Lima ❤️", None, "Lima"),
        ("", None, None),
    ],
)
def test_the_exact_answer_is_what_follows_the_frame_or_the_first_sentence(answer, frame, expected):
    span = locate(answer, frame)
    assert (span and answer[slice(*span)]) == expected


ANSWER = "\n It is “Lima”, I think.  Not Cusco.\nOr is IT?"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "auto", "frame": "It is"}, "Lima”, I think"),
        ({"method": "frame", "frame": "It is"}, "Lima”, I think"),
        ({"method": "auto"}, "It is “Lima”, I think"),
        ({"method": "sentence"}, "It is “Lima”, I think"),
        ({"method": "sentence", "frame": "It is"}, "It is “Lima”, I think"),
        ({"method": "line"}, "It is “Lima”, I think.  Not Cusco"),
        ({"method": "regex", "pattern": "C.s"}, "Cus"),
        ({"method": "regex", "pattern": "“(.*?)”"}, "Lima"),
        ({"method": "regex", "pattern": r"think\.(.*?)Cusco"}, "Not"),
        # the group that took no part, and the one that is not the first
        ({"method": "regex", "pattern": "Ica|(Lima)|Cusco"}, "Lima"),
        ({"method": "regex", "pattern": "(Ica)|Not (Cusco)"}, "Not Cusco"),
        ({"method": "model", "quote": "Cusco"}, "Cusco"),
        ({"method": "model", "quote": ' "cusco." '}, "Cusco"),
        ({"method": "model", "quote": "“Lima”"}, "Lima"),
        ({"method": "model", "quote": "is"}, "is"),
        ({"method": "model", "quote": "IT"}, "IT"),
        ({"method": "model", "quote": "cus"}, "Cus"),
    ],
)
def test_methods(options, expected):
    assert ANSWER[slice(*locate(ANSWER, **options))] == expected


@pytest.mark.parametrize(
    ("answer", "quote", "start"),
    [
        ("In 1914 he was 1 of many", "1", 15),  # a whole word before a part of one
        ("İ, then Lima", "lima", 8),  # lower-casing İ would make it longer and shift the span
        ("IT is it", "it", 6),  # as it is before another case
    ],
)
def test_the_quote_is_located_where_it_is_meant(answer, quote, start):
    assert locate(answer, method="model", quote=quote) == (start, start + len(quote))


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        (" \n", {}, "the answer is empty"),
        ("", {"method": "model", "quote": "Lima"}, "the answer is empty"),
        ("Lima it is.", {"frame": "It is"}, "the answer does not begin with its frame"),
        ("It is ...", {"frame": "It is"}, "nothing follows the frame"),
        ("Lima", {"method": "frame"}, "the question has no frame"),
        ("...", {}, "the answer holds no word"),
        ("...\n--", {"method": "line"}, "the answer holds no word"),
        ("Lima", {"method": "regex", "pattern": "Cusco"}, "the pattern does not match"),
        ("Li ma", {"method": "regex", "pattern": r"\s"}, "the pattern matches no text"),
        ("Lima", {"method": "model"}, "the model quoted nothing"),
        ("Lima.", {"method": "model", "quote": ' "." '}, "the model quoted nothing"),
        ("Lima", {"method": "model", "quote": "L.ma"}, "the model's quote is not in its answer"),
    ],
)
def test_why_there_is_no_exact_answer(answer, options, expected):
    frame, quote = options.pop("frame", None), options.pop("quote", None)
    assert find_exact_answer(answer, frame, ExactAnswer(**options), quote) == (None, expected)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'guess'"):
        ExactAnswer(method="guess")


@pytest.mark.parametrize(
    ("exact", "aliases", "expected"),
    [
        ("+", ["+"], True),
        ("the 😀 face", ["😀"], True),
        ("+", ["-"], False),
        ("Brasilia", ["Brasília"], True),
        ("Łódź", ["Lodz"], True),
        ("the Fijian dollar", ["Dollar"], True),
        ("Guinea-Bissau", ["Guinea Bissau"], True),
        ("St. George's", ["St George’s"], True),
        ("Washington DC", ["Washington D.C."], True),
        ("C.", ["C"], True),
        ("CO", ["C"], False),
        ("Niger", ["Nigeria"], False),
        ("Nigeria", ["Niger"], False),
        ("Paris, France", ["Lyon", "Paris"], True),
        ("_Paris_", ["Paris"], True),
        ("New York", ["York New"], False),
        ("Mona Lisa", ["The “Mona Lisa”"], True),
        ("vitamin C", ["Vitamin A"], False),
        ("vitamin A", ["Vitamin A"], True),
        ("A", ["A"], True),
        ("A – Paris", ["A"], True),
        ("the", ["a"], False),
        ("", [""], False),
        ("Lima", [], False),
    ],
)
def test_correctness_is_whole_words_of_any_alias(exact, aliases, expected):
    assert is_right(exact, aliases) is expected


@pytest.mark.parametrize(
    ("exact", "alias", "expected"),
    [
        ("3,000", "3000", True),
        ("3000", "3,000", True),
        ("3000.0", "3,000", True),
        ("1,234,567.5 people", "1234567.50", True),
        ("３０００", "3000", True),
        ("3.14", "314", False),
        ("314", "3.14", False),
        ("3.14", "3", False),
        ("3,000", "3", False),
        ("3,000", "000", False),
        ("17", "7", False),
        ("7", "17", False),
        ("3.5 million", "35 million", False),
        ("3.5 million", "3.50 million", True),
        ("about 0.5", ".5", True),
        ("-5", "5", False),
        ("5", "-5", False),
        ("−5 degrees", "-5", True),
        ("(-5)", "-5", True),
        ("1914-1918", "1914", False),
        ("1914-1918", "1918", False),
        ("1914–1918", "1918", False),
        ("1914-1918", "-1918", False),
        ("10%-20%", "20", False),
        ("1,5", "15", False),
        ("1,5", "1.5", False),
        ("1,5", "5", False),
        ("1 and 5", "5", False),
        ("3,0000", "30000", False),
        ("1,234,5", "1234", False),
        ("24.12.1914", "1914", True),
        ("24.12.1914", "24.12", False),
        ("5'10", "510", False),
        ("10²", "102", False),
        ("10⁻²", "10²", False),
        ("3½", "31", False),
        ("$5", "5", True),
        ("5km", "5 km", True),
        ("3.5km", "35 km", False),
        ("the 7th", "7", False),
        ("1990s", "1990", False),
        ("1,000th", "1", False),
        ("7th", "7th", True),
        ("H₂O", "H2O", True),
        ("H2O", "2", False),
        ("v2.0", "0", False),
        ("No.5", "5", True),
        ("...5", "5", True),
    ],
)
def test_numbers_are_compared_by_value(exact, alias, expected):
    assert is_right(exact, [alias]) is expected


@pytest.mark.parametrize(
    ("exact", "alias", "expected"),
    [
        ("答えは東京です", "東京", True),
        ("西暦1945年", "1945", True),
        ("西暦1945年", "194", False),
        ("東京", "京東", False),
        ("カキ", "カギ", False),  # voicing is no accent
        ("กรุงเทพมหานคร", "กรุงเทพ", True),
        ("서울", "서울", True),
        ("서울시", "서울", False),
        ("दिल्ली", "दाल", False),
        ("नई दिल्ली", "दिल्ली", True),
    ],
)
def test_scripts_without_spaces_and_with_vowel_signs(exact, alias, expected):
    assert is_right(exact, [alias]) is expected


def test_tokens_overlap_by_characters_and_those_without_any_never_do():
    #         outside, in, none, in, across the end, outside
    starts = [0, 3, 5, 5, 7, 9]
    ends = [3, 5, 5, 7, 9, 12]
    assert overlapping(starts, ends, (3, 8)) == [1, 3, 4]
    assert overlapping(starts, ends, (4, 5)) == [1]
    assert overlapping(starts, ends, (5, 5)) == []


def test_named_positions_of_an_answer():
    #        The  capital  is   Li   ma   .
    starts = [0, 3, 11, 14, 17, 19]
    ends = [3, 11, 14, 17, 19, 20]
    positions = locate_named_tokens(100, starts, ends, (15, 19))
    assert positions == {
        "last_q": 99,
        "first_answer": 100,
        "second_answer": 101,
        "exact_answer_before_first": 102,
        "exact_answer_first": 103,
        "exact_answer_last": 104,
        "exact_answer_after_last": 105,
        **{str(back): 106 + back for back in range(-6, 0)},
        "answer_mean": range(100, 106),
    }
    assert set(positions) <= set(NAMED_TOKENS)
    stopped = locate_named_tokens(100, starts, ends, (15, 19), stops=True)
    assert stopped == positions | {"stop": 106}


def test_what_ends_an_answer_is_after_an_exact_answer_that_ends_it():
    arguments = 100, [0, 3, 11], [3, 11, 14], (4, 14)
    assert "exact_answer_after_last" not in locate_named_tokens(*arguments)
    positions = locate_named_tokens(*arguments, stops=True)
    assert positions["exact_answer_last"] == positions["-1"] == 102
    assert positions["exact_answer_after_last"] == positions["stop"] == 103
    assert positions["answer_mean"] == range(100, 103)


def test_a_short_answer_has_no_early_tokens_and_never_those_of_the_question():
    positions = locate_named_tokens(10, [0], [4], (0, 4))
    assert positions == {
        "last_q": 9,
        "first_answer": 10,
        "exact_answer_first": 10,
        "exact_answer_last": 10,
        "-1": 10,
        "answer_mean": range(10, 11),
    }
