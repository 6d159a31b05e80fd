import random

import pytest

from llm_figures.questions.judging.judges import DOUBTS, could_match, judge, names_option
from llm_figures.questions.judging.rules import EQUALITIES, EXCLUSIONS, RULES
from llm_figures.questions.options import ExactAnswer, Judge


def verdict(exact, *gold, method="contains", question="", choices=(), rules=RULES):
    return judge(method, exact, gold, question, choices, rules)


# A pair for every rule that makes two answers equal.
EQUAL = [
    ("number_words", "seven", "7"),
    ("number_words", "three hundred and five", "305"),
    ("number_words", "二十三", "23"),
    ("fractions", "1/2", "0.5"),
    ("fractions", "3½", "3.5"),
    ("fractions", r"\frac{1}{2}", "0.5"),
    ("thousands", "1 000", "1000"),
    ("thousands", "3 million", "3000000"),
    ("units", "10 kilometers", "10 km"),
    ("units", "10,000 m", "10 km"),
    ("units", "60 miles per hour", "60 mph"),
    ("units", "20 degrees Celsius", "20 °C"),
    ("units", "50%", "0.5"),
    ("units", "$5", "5 dollars"),
    ("units", "25 cents", "$0.25"),
    ("dates", "July 4, 1776", "4 July 1776"),
    ("dates", "1776-07-04", "July 4, 1776"),
    ("dates", "4th of July, 1776", "4 July 1776"),
    ("dates", "1776年7月4日", "4 July 1776"),
    ("dates", "3 pm", "15:00"),
    ("ranges", "between 7 and 9", "7 to 9"),
    ("initials", "AB Carter", "A. B. Carter"),
    ("initials", "JRR Tolkien", "J. R. R. Tolkien"),
    ("initials", "J. Austen", "Jane Austen"),
    ("name_order", "Kurosawa Akira", "Akira Kurosawa"),
    ("spelling", "Chlorophyl", "chlorophyll"),
    ("abbreviations", "Saint Lucia", "St. Lucia"),
    ("abbreviations", "Tom & Jerry", "Tom and Jerry"),
    ("roman_numerals", "World War 2", "World War II"),
    ("plurals", "flowers", "flower"),
    ("plurals", "mice", "mouse"),
    ("plurals", "mitochondria", "mitochondrion"),
    ("spacing", "Leonardo Di Caprio", "Leonardo DiCaprio"),
    ("chinese_characters", "日圓", "日圆"),
    ("categories", "Dutch", "Dutch language"),
    ("categories", "Everest", "Mount Everest"),
    ("categories", "Seuss", "Dr. Seuss"),
    ("mathematics", "1 + x", "x + 1"),
    ("mathematics", "x ≥ 2", r"[2,\infty)"),
    ("mathematics", r"2\sqrt{2}", r"\sqrt{8}"),
    ("mathematics", "x = 2 or x = 3", "2, 3"),
    ("mathematics", "36π square units", r"36\pi"),
]


@pytest.mark.parametrize(("rule", "exact", "gold"), EQUAL)
def test_equal_by_a_rule_and_not_without_it(rule, exact, gold):
    # the order of names may be another where a person is asked for
    question = "Who?" if rule == "name_order" else ""
    found = verdict(exact, gold, question=question)
    assert (found.right, found.rule) == (True, rule)
    assert not verdict(exact, gold, rules=[], question=question).right
    assert verdict(exact, gold, method="exact", question=question).right


def test_every_rule_of_equality_has_a_pair():
    # ratios, and units that a question asks for, depend on the question: tested below
    assert {rule for rule, _, _ in EQUAL} == EQUALITIES.keys() - {"question_units"}


# (answer, right answer, rule that rules it out)
EXCLUDED = [
    ("negation", "It is not Paris", "Paris"),
    ("negation", "Paris is wrong", "Paris"),
    ("negation", "anything other than Paris", "Paris"),
    ("negation", "不是北京", "北京"),
    ("negation", "東京ではありません", "東京"),
    ("corrections", "London – no, Paris", "London"),
    ("alternatives", "Paris or Lyon", "Paris"),
    ("alternatives", "Lyon, Paris, or Nice", "Paris"),
    ("longer_names", "Guinea-Bissau", "Guinea"),
    ("longer_names", "South Sudan", "Sudan"),
    ("longer_names", "Mexico City", "Mexico"),
    ("alternatives", "7 to 9", "7"),
    ("alternatives", "1914–1918", "1914"),
    ("alternatives", "Paris/Lyon", "Paris"),
    ("alternatives", "Paris, maybe Lyon", "Paris"),
    ("bounds", "at least 12", "12"),
    ("longer_names", "carbon dioxide", "carbon"),
    ("longer_names", "non-metal", "metal"),
    ("longer_names", "Toy Story 2", "Toy Story"),
    ("negation", "The Amazon is longer than the Nile", "the Nile"),
    ("negation", "I doubt it is Paris", "Paris"),
    ("corrections", "Many think Lyon, but it is Paris", "Lyon"),
    ("asides", "Gerald Ford, who took over after Nixon", "Nixon"),
]


@pytest.mark.parametrize(("rule", "exact", "gold"), EXCLUDED)
def test_ruled_out_by_a_rule_and_not_without_it(rule, exact, gold):
    found = verdict(exact, gold)
    assert (found.right, found.rule) == (False, rule)
    assert found.doubt in DOUBTS
    without = [name for name in RULES if name != rule]
    assert verdict(exact, gold, rules=without).right


def test_every_rule_of_exclusion_has_an_example():
    assert {rule for rule, _, _ in EXCLUDED} == EXCLUSIONS.keys() - {"echo", "other_persons"}


@pytest.mark.parametrize(
    ("exact", "gold"),
    [
        ("not Lyon but Paris", "Paris"),
        ("Paris, not Lyon", "Paris"),
        ("two and a half", "2.5"),
        (r"$\frac{-2}{3}$", r"-\frac{2}{3}"),
        ("A.B. Carter", "A. B. Carter"),
        ("[1,4]", "[1, 4]"),
        ("London, or rather Paris", "Paris"),
        ("London – no, Paris", "Paris"),
        ("No doubt Paris", "Paris"),
        ("Without a doubt Paris", "Paris"),
        ("None other than Einstein", "Einstein"),
        ("It wasn't until 1920", "1920"),
        ("Not surprisingly it is Paris", "Paris"),
        ("是北京不是上海", "北京"),
        ("在非洲的埃及", "埃及"),
        ("서울입니다", "서울"),
        ("O negative", "O-"),
        ("10⁵", "10^5"),
        ("negative 40", "-40"),
        ("H₂O", "H_2O"),
        ("5 feet 11 inches", "5 ft 11 in"),
        ("71 inches", "5 ft 11 in"),
        ("90 minutes", "1 hour 30 minutes"),
        ("a dozen", "12"),
        ("273.15 K", "0 °C"),
        ("10公里", "10 km"),
        ("9.8 meters per second squared", "9.8 m/s^2"),
        ("WWII", "World War II"),
        ("pi/2", r"\frac{\pi}{2}"),
        ("not only Paris", "Paris"),
        ("not guilty", "not guilty"),
        ("Moby-Dick; or, The Whale", "Moby-Dick"),
        ("No, No, Nanette", "No, No, Nanette"),
        ("New York City", "New York"),
        ("Paris, France", "Paris"),
        ("5 or so", "5"),
    ],
)
def test_what_is_stated_is_not_ruled_out(exact, gold):
    assert verdict(exact, gold).right


@pytest.mark.parametrize(
    ("exact", "gold"),
    [
        ("7/8", "7"),
        ("12:30", "12"),
        ("3 million", "3"),
        ("x - 1", "x + 1"),
        (r"\frac{1}{2}", r"-\frac{1}{2}"),
        (r"5\pi", "5"),
        ("(1, 4)", "[1, 4]"),
        ("3 + 4 = 8", "7"),
        ("15 cents", "$15"),
        ("0.25%", "0.25"),
        ("10 kg", "10 km"),
        ("9:15 in the morning", "21:15"),
        ("Romanian", "Romania"),
        ("Zambia", "Gambia"),
        ("George H. W. Bush", "George W. Bush"),
        ("1990s", "1990"),
        ("more than 12", "12"),
        ("1 and 2", "1"),
        ("Shakespeare's wife", "Shakespeare"),
        ("O_2", "O_3"),
        ("CO", "CO_2"),
        ("C major", "A major"),
        ("A-", "A+"),
        ("negative five", "5"),
        ("10⁵", "10"),
        ("12:30 pm", "12:30 am"),
        ("5 ft 11 in", "5 ft"),
        ("sulfite", "sulfate"),
        ("methene", "methane"),
        ("Antonia", "Antonio"),
        ("Johnson", "Johnston"),
        ("Tim and Jerry", "Tom and Jerry"),
        ("Mrs. Robinson", "Mr. Robinson"),
        ("King James", "LeBron James"),
        ("J. Q. Adams", "John Adams"),
        ("King Stephen", "Stephen King"),
        ("Williams", "William"),
        ("the rapist", "therapist"),
        ("四川", "4"),
        ("九龙", "9"),
        ("who", "WHO"),
        ("299 km", "300000 m"),
        ("not x+1", "x+1"),
        ("either 2x or 3x", "3x"),
        ("x = 3, y = 4", "x = 4, y = 3"),
        ("y=5", "x=5"),
        (r"x = \pm 5", "5"),
        (r"36\pi \text{ cm}^3", r"36\pi \text{ cm}^2"),
        ("(1,2)", r"\{1,2\}"),
        ("x+y", "x-y"),
        ("x^2", "x"),
        ("n!", "n"),
        ("101", "101_2"),
        ("Paris? No, Lyon", "Paris"),
    ],
)
def test_part_of_another_value_is_wrong(exact, gold):
    assert not verdict(exact, gold).right


@pytest.mark.parametrize("letter", "ABCDE")
@pytest.mark.parametrize(
    "answer",
    [
        "{} is the correct answer",
        "The answer is {} because it is largest",
        "({}) Lima",
        "{}. Lima",
        "I think {}",
        "Option {}",
        "It must be {}, since the others are wrong",
        "{}",
    ],
)
def test_correctness_does_not_depend_on_which_letter_is_right(answer, letter):
    assert verdict(answer.format(letter), letter).right
    others = [other for other in "ABCDE" if other != letter]
    assert not any(verdict(answer.format(other), letter).right for other in others)


CHOICES = ["Lima", "Quito", "Vitamin C", "New Quito", "It melted"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", True),
        ("b)", True),
        ("Quito", True),
        ("B. Quito", True),
        ("It is Quito (B)", True),
        ("not A but B", True),
        ("It can't be A or C, so it must be B", True),
        ("B, not C", True),
        ("A good guess is B", True),
        ("A", False),
        ("Lima", False),
        ("not B", False),
        ("New Quito", False),
        ("B. Lima", False),
        ("A or B", False),
        ("Lima or Quito", False),
        ("Vitamin C", False),
    ],
)
def test_a_choice_is_given_by_its_letter_or_its_text(answer, right):
    for method in ("contains", "choice"):
        assert verdict(answer, "B", "Quito", method=method, choices=CHOICES).right is right


def test_a_letter_in_the_text_of_a_choice_is_none():
    assert verdict("Vitamin C", "C", "Vitamin C", choices=CHOICES).right
    assert verdict("the ice melted", "E", "It melted", choices=CHOICES).right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes, they are", "yes"),
        ("No. Cats are not birds", "no"),
        ("That is correct", "yes"),
        ("It is not true that cats are birds", "no"),
        ("Not really", "no"),
        ("Unfortunately not", "no"),
        ("Indeed", "yes"),
        ("No doubt about it", "yes"),
        ("There is no doubt about it, yes", "yes"),
        ("That is a myth", "no"),
        ("Cats are not birds", "no"),
        ("Cats are birds", "yes"),
        ("They are not", "no"),
        ("No... wait, yes", "yes"),
        ("是的", "yes"),
        ("Yes, that is false", None),
        ("Yes and no", None),
        ("Yesterday", None),
        ("Exactly 5", None),
        ("No one knows", None),
        ("Not sure", None),
        ("Sure! Cats are not birds", "no"),
        ("The answer is: no", "no"),
        ("Yes, although many think this is wrong", "yes"),
        ("I don't think so", "no"),
        ("Not false", "yes"),
        ("Of course they are", "yes"),
        ("不错", None),
        ("没错", "yes"),
        ("नहीं", "no"),
        ("Are cats birds", None),
    ],
)
def test_yes_and_no(answer, said):
    for gold in ("yes", "no"):
        found = verdict(
            answer, gold, {"yes": "True", "no": "false"}[gold], question="Are cats birds?"
        )
        assert found.right is (said == gold)


def test_words_that_only_look_like_yes_or_no():
    assert verdict("on the right", "right", question="On which side is the liver?").right
    assert verdict("The symbol is Si", "Si", question="What is the symbol of silicon?").right
    assert verdict("No", "No", question="What is the symbol of nobelium?").right
    assert verdict("B. False", "B", "False", choices=["True", "False"], question="Is it?").right


def test_words_of_the_question_answer_nothing_alone():
    question = "What is the capital of Mexico?"
    found = verdict("the capital of Mexico is Guadalajara", "Mexico", question=question)
    assert (found.right, found.rule) == (False, "echo")
    assert found.doubt == "only repeats words of the question"
    # the answer of a choice that the question gives is one, but is marked
    found = verdict("the Sun", "the Sun", question="Which is larger, the Sun or the Moon?")
    assert (found.right, found.doubt) == (True, "a gold answer occurs in the question")
    question = "How many grams are 2.5 kilograms?"
    assert not verdict("2.5 kilograms is 25,000 grams", "2500 g", question=question).right
    assert verdict("2.5 kilograms is 2,500 grams", "2500 g", question=question).right


def test_a_longer_name_of_a_person_is_another_person():
    who = "Who wrote it?"
    assert not verdict("Martin Luther King", "Martin Luther", question=who).right
    assert verdict("Martin Luther King Jr.", "Martin Luther King", question=who).right
    assert verdict("President Wilson", "Woodrow Wilson", question="Which president was it?").right


def test_units_of_the_question():
    question = "How many kilometers is it?"
    assert verdict("10", "10 km", question=question).rule == "question_units"
    assert verdict("10,000 m", "10", question=question).right
    assert not verdict("10 miles", "10", question=question).right
    assert not verdict("10", "10 km", question="How far is it?").right


def test_a_ratio_is_a_range_of_the_question():
    assert verdict("3 to 4", "3:4", question="What is the ratio?").right
    assert not verdict("3 to 4", "3:4", question="When?").right


def test_another_person_of_the_same_surname_is_wrong():
    gold = ("Mary Shelley", "Mary Wollstonecraft Shelley", "Shelley")
    who = "Who wrote Frankenstein?"
    assert verdict("Shelley", *gold, question=who).right
    assert verdict("M. Shelley", *gold, question=who).right
    assert verdict("the author Shelley", *gold, question=who).right
    found = verdict("Percy Bysshe Shelley", *gold, question=who)
    assert (found.right, found.rule) == (False, "other_persons")
    gold = ("尼尔·阿姆斯特朗", "阿姆斯特朗")
    assert not verdict("路易斯·阿姆斯特朗", *gold, question="谁第一个登上月球？").right
    assert verdict("尼尔·奥尔登·阿姆斯特朗", *gold, question="谁第一个登上月球？").right
    # words before a thing are no first names
    question = "What is the currency of Barbados?"
    assert verdict("Barbados dollar", "Barbadian Dollar", "Dollar", question=question).right


@pytest.mark.parametrize(
    ("exact", "gold", "right"),
    [
        ("12", "12", True),
        ("twelve", "12", True),
        ("The total is 3 + 9 = 12", "12", True),
        ("12 km", "12 km", True),
        ("12", "13", False),
        ("first 13, then 12", "12", True),
        ("12, then 13", "12", False),
        ("Paris", "12", False),
        (r"\frac{3}{4}", "0.75", True),
        ("not 12", "12", False),
    ],
)
def test_numeric_judges_the_last_value(exact, gold, right):
    assert verdict(exact, gold, method="numeric").right is right


def test_exact_takes_the_whole_exact_answer():
    assert verdict("the Nile", "Nile", method="exact").right
    assert not verdict("the Nile in Egypt", "Nile", method="exact").right


def test_near_misses_are_in_doubt():
    assert verdict("Austen", "Jane Austen").doubt == "part of a gold answer"
    assert verdict("Montivideo", "Montevideo").doubt == "spelled almost like a gold answer"
    assert verdict("Lima", "Quito").doubt == ""
    assert verdict("Quito", "Quito").doubt == ""


@pytest.mark.parametrize(
    ("method", "locate", "gold", "expected"),
    [
        ("contains", "sentence", ["Paris"], True),
        ("contains", "sentence", ["He sold 24 clips in May. In total he sold 72."], False),
        ("contains", "line", ["He sold 24 clips in May. In total he sold 72."], True),
        ("contains", "sentence", ["..."], False),
        ("contains", "sentence", ["...", "Paris"], True),
        ("contains", "boxed", [r"\frac{1}{2}"], True),
        ("contains", "final_answer", ["3.14"], True),
        ("contains", "auto", ["not guilty"], True),
        ("contains", "auto", ["+"], True),
        ("contains", "auto", ["🙂"], True),
        ("contains", "auto", ["E. coli"], True),
        ("contains", "auto", ["Dr. No"], True),
        ("contains", "auto", [r"50\%"], True),
        ("numeric", "auto", ["1 hour 30 minutes"], True),
        ("numeric", "sentence", ["Paris"], False),
        ("numeric", "sentence", ["72"], True),
        ("choice", "sentence", ["C"], True),
    ],
)
def test_a_gold_answer_that_no_answer_could_match_is_known(method, locate, gold, expected):
    options = ExactAnswer(method=locate)
    assert could_match(method, gold, "", (), RULES, None, options) is expected


def test_judges_never_fail_whatever_the_text():
    pieces = [
        "7",
        " ",
        "\\frac{",
        "}",
        "$",
        "not ",
        "or ",
        "A",
        ".",
        "½",
        "年",
        "{,}",
        "\n",
        "−",
        "é",
        "x",
        "^",
        "_",
        "=",
        "(",
        "]",
        "%",
        "million",
        "two thirds",
        "\\",
        "😀",
        "I",
        "°C",
        "(?",
    ]
    draw = random.Random(0)
    for _ in range(400):
        texts = ["".join(draw.choices(pieces, k=draw.randint(0, 7))) for _ in range(3)]
        for method in ("contains", "exact", "numeric", "choice"):
            assert judge(method, texts[0], texts[1:], texts[2], texts[1:], RULES).right in (
                True,
                False,
            )


def test_an_unknown_rule_or_method_is_refused():
    with pytest.raises(ValueError, match="'guess'"):
        Judge(method="guess")
    with pytest.raises(ValueError, match="'guess'"):
        judge("guess", "a", ["a"])


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9}}",
        "9^9^9",
        "(x+y+z)^{200}",
        "5!!!!!!",
        "100000!",
        r"\\binom{100000}{50000}".replace("\\\\", "\\"),
        "10^{10^{10}}",
        "5^(10^10)",
        "9" * 5000,
        "1e400 km",
        "1/" + "9" * 500,
    ],
)
def test_no_expression_takes_for_ever(text):
    """A tower of powers is compared as a text; sympy would never return."""
    for method in ("contains", "exact", "numeric"):
        assert verdict(text, text, method=method).right
        assert not verdict(text, "x+1", "7", "5 m", method=method).right
        assert not verdict("x+1", text, method=method).right


# (exact answer, right answers, the other options, choices, whether it names an option)
OPTIONS = [
    ("Iron", ["iron"], ["lead"], [], True),
    ("lead, I think", ["iron"], ["lead"], [], True),
    ("not lead", ["iron"], ["lead"], [], True),
    ("iron or lead", ["iron"], ["lead"], [], True),
    ("Gold", ["iron"], ["lead"], [], False),
    ("the heavier of the two", ["iron"], ["lead"], [], False),
    ("leading", ["iron"], ["lead"], [], False),
    ("aluminum", ["iron"], ["aluminium", "aluminum"], [], True),
    # a part of one option; not one of two
    ("Clinton", ["Jimmy Carter"], ["Bill Clinton"], [], True),
    ("Carter", ["Jimmy Carter", "James Carter"], ["Bill Clinton"], [], True),
    ("vitamin", ["vitamin C"], ["vitamin D"], [], False),
    ("the", ["the moon"], ["a star"], [], False),
    # numbers are read by value
    ("twelve", ["12"], ["15"], [], True),
    ("13", ["12"], ["15"], [], False),
    # letters, of choices or as options
    ("B", ["A", "red"], ["blue"], ["red", "blue"], True),
    ("C", ["A", "red"], ["blue"], ["red", "blue"], False),
    ("blue", ["A", "red"], ["blue"], ["red", "blue"], True),
    ("green", ["A", "red"], ["blue"], ["red", "blue"], False),
    ("A dog", ["B"], ["A"], [], False),
    ("The answer is A", ["B"], ["A"], [], True),
    # yes and no are said in many words
    ("It is not", ["yes"], ["no"], [], True),
    ("perhaps", ["yes"], ["no"], [], False),
]


@pytest.mark.parametrize(("exact", "gold", "wrong", "choices", "names"), OPTIONS)
def test_an_answer_names_an_option_or_none(exact, gold, wrong, choices, names):
    assert names_option(exact, gold, wrong, "Is it so?", choices, RULES) is names


@pytest.mark.parametrize("method", ["contains", "exact", "choice"])
def test_an_answer_that_is_right_names_an_option(method):
    for exact, gold, _, choices, names in OPTIONS:
        if verdict(exact, *gold, method=method, question="Is it so?", choices=choices).right:
            assert names, exact
