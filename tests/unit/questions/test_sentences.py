import pytest

from llm_figures.questions.options import ExactAnswer
from llm_figures.questions.sentences import find_sentence_end
from llm_figures.questions.spans import find_exact_answer


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A. B. Carter. He wrote it.", "A. B. Carter"),
        ("A.B. Carter wrote it. Yes.", "A.B. Carter wrote it"),
        ("AB Carter. He wrote it.", "AB Carter"),
        ("J. R. R. Tolkien. He", "J. R. R. Tolkien"),
        ("George W. Long. He", "George W. Long"),
        ("А. С. Пушкин. Он", "А. С. Пушкин"),
        ("Prof. Hill. He", "Prof. Hill"),
        ("Gen. Lee won. Yes", "Gen. Lee won"),
        ("Warner Bros. Pictures. It", "Warner Bros. Pictures"),
        ("Warner Bros. It is a studio", "Warner Bros"),
        ("Vol. 2 of it. Yes", "Vol. 2 of it"),
        ("Sgt. Pepper. It", "Sgt. Pepper"),
        ("Dr. No. It", "Dr. No"),
        ("approx. 5 km. It", "approx. 5 km"),
        ("1. Paris. 2. London", "1. Paris"),
        ("12. The sum of 5 and 7 is 12.", "12"),
        ("No. Cats are not birds.", "No"),
        ("Yes. Cats are animals.", "Yes"),
        ("No. 5 by Chanel. It", "No. 5 by Chanel"),
        ("It is 3.14. Yes", "It is 3.14"),
        ("$5.50. It", "$5.50"),
        ("Washington D.C. and so on. More.", "Washington D.C. and so on"),
        ("at 5 p.m. on Monday. X", "at 5 p.m. on Monday"),
        ("Am 3. Oktober 1990. Ja", "Am 3. Oktober 1990"),
        ("The symbol is C. It is in coal.", "The symbol is C"),
        ("Vitamin C. Oranges have it.", "Vitamin C"),
        ("E. coli. It", "E. coli"),
        ("Really?! Yes", "Really"),
        ("答えは東京です。他は知りません。", "答えは東京です"),
        ("दिल्ली। और", "दिल्ली"),
        ("Lima\nCusco", "Lima"),
        ("a last line without a full stop", "a last line without a full stop"),
    ],
)
def test_where_a_sentence_ends(text, first):
    assert text[: find_sentence_end(text)] == first


@pytest.mark.parametrize("word", ["No", "Yes"])
def test_the_end_does_not_depend_on_what_an_answer_says(word):
    assert find_sentence_end(f"{word}. Cats are animals.") == len(word)


def locate(answer, method, frame=None):
    span, problem = find_exact_answer(answer, frame, ExactAnswer(method=method))
    return problem if span is None else answer[slice(*span)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"so it is \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1}, no: \boxed{ 2 }", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{x}, \boxed{3} and \boxed{4", "the last box is not closed"),
        (r"\boxed{}", "the last box is empty"),
        ("3", r"the answer has no \boxed{...}"),
    ],
)
def test_the_last_box_with_balanced_braces(answer, expected):
    assert locate(answer, "boxed") == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I add. The answer is 3.14. Done.", "3.14"),
        ("The final answer is $5.50", "$5.50"),
        ("Answer: George W. Long", "George W. Long"),
        ("48 + 24 = 72\n#### 72", "72"),
        (r"The answer is: $\boxed{\frac{1}{2}}$. I hope it helps.", r"\frac{1}{2}"),
        ("The answer is:\n\\[\n\\boxed{5}\n\\]", "5"),
        ("**Answer:** Paris", "Paris"),
        ("The answer is 5. No, the answer is 6.", "6"),
        ("Answer: 5\n\nI hope this answer is helpful.", "5"),
        ("The correct answer to this question is (B) Paris.", "(B) Paris"),
        ("The answer is A because it is largest.", "A because it is largest"),
        ("答案是北京。", "北京"),
        ("Ответ: Москва", "Москва"),
        ("Die Antwort lautet Berlin.", "Berlin"),
        ("Paris", 'the answer has no "answer is", "Answer:" or "####" with text after it'),
    ],
)
def test_the_final_answer_of_reasoning(answer, expected):
    assert locate(answer, "final_answer") == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A is the correct answer.", "A is the correct answer"),
        ("A dog is here.", "dog is here"),
        ("A major.", "A major"),
        (r"-\frac{1}{2}.", r"-\frac{1}{2}"),
        ("[1, 4].", "[1, 4]"),
        ("(1, 4]", "(1, 4]"),
        ("$x+1$.", "x+1"),
        ("$12$ and $13$.", "$12$ and $13$"),
        ("50%.", "50%"),
        (r"50\%", r"50\%"),
        ("C++.", "C++"),
        ("A+", "A+"),
        ("Na+.", "Na+"),
        ("(B) Paris.", "(B) Paris"),
        ("**Paris**.", "Paris"),
        ("- Lima", "Lima"),
        ("–5 degrees", "–5 degrees"),
        ("Lima ❤️", "Lima"),
        ("+", "+"),
    ],
)
def test_signs_brackets_and_latex_stay(answer, expected):
    assert locate(answer, "sentence") == expected


def test_a_frame_of_a_script_without_spaces_needs_none():
    assert locate("答案是北京。", "frame", "答案是") == "北京"


@pytest.mark.parametrize(
    "text", ["(a" * 250 + "}" * 500, "(" * 8000, "J. K. " * 2000, "#" * 8000, "answer is " * 1000]
)
@pytest.mark.parametrize("method", ["sentence", "line", "boxed", "final_answer"])
def test_degenerate_answers_are_read(text, method):
    """Models repeat themselves; a search that is not linear would take minutes here."""
    assert locate(text, method)
