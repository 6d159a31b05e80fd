import itertools
import random

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from llm_figures.questions import duplicates
from llm_figures.questions.duplicates import find_near_duplicates, normalise_question
from llm_figures.questions.facts import build_facts

SAME = [
    ("What is 12 + 7?", "What is 12+7?"),
    ("What is 12 + 7?", "what is (12+7) ?!"),
    ("What is 5 - 3?", "What is 5-3?"),
    ("What is 5 - 3?", "What is 5 − 3？"),
    ("What is 5 - 3?", "What is 5–3"),
    ("5 - -3", "5--3"),
    ("What is -5 + 3?", "What is - 5+3?"),
    ("the square of -5", "the square of - 5"),
    ("3 * 4", "3 × 4"),
    ("3 * 4", "3x4"),
    ("3 * 4", r"$3 \cdot 4$"),
    ("6 / 2", "6÷2"),
    ("1/2", "½"),
    ("1 1/2", "1½"),
    ("10^2", "10²"),
    ("10^2", "10**2"),
    ("1,000", "1000"),
    ("1 000", "1000"),
    ("1\u202f000", "1,000"),
    ("1{,}000", "1000"),
    (".5", "0.5"),
    ("5 %", "5%"),
    ("2(3 + 4)", "2 (3+4)"),
    ("x^2 - 3x", "x^2-3x"),
    ("Simplify x - 3", "Simplify x-3"),
    (r"\( x + 3 \)", "x+3"),
    (r"$\left(x+3\right)$", "(x + 3)"),
    ("(3, 4)", "(3,4)"),
    ("٣ + ٤", "3+4"),
    ("Spider-Man", "Spider Man"),
    ("Spider-Man", "SpiderMan"),
    ("COVID-19", "Covid 19"),
    ("Vitamin B-12", "vitamin B12"),
    ("a 12-year-old", "a 12 year old"),
    ("Apollo – 11", "Apollo 11"),
    ("U.S.", "US"),
    ("J. R. R. Tolkien", "JRR Tolkien"),
    ("don't", "don’t"),
    ("don't", "dont"),
    ("the “Mona Lisa”", "the «Mona Lisa»"),
    ("wrote *Hamlet*?", "wrote `Hamlet`"),
    ("AT & T", "AT&T"),
    ("and/or", "and or"),
    ("LEGO™", "Lego"),
    ("zero\u200bwidth\u00ad", "zerowidth"),
    ("no\u00a0break", "no break"),
    ("Ｆｉｎｅ！", "fine"),
    ("São Paulo", "Sao Paulo"),
    ("Malmø", "Malmo"),
    ("ΑΘΗΝΑ", "Αθήνα"),
    ("ёлка", "елка"),
    ("H₂O", "H2O"),
    ("中国 的 首都？", "中国的首都"),
    ("计算-5+3", "计算 -5 + 3"),
    ("スパイダー・マン", "スパイダーマン"),
]
# The members of each differ from one another in meaning.
APART = [
    ["3 * 4", "3 + 4", "3 - 4", "34", "3.4", "3,4", "3/4", "3^4", "3:4", "3 = 4", "3 < 4"],
    ["12", "1 2", "1.2", "-12", "1, -2"],
    ["What is 5?", "What is -5?"],
    ["C", "C++", "C#"],
    ["2*(3+4)", "2*3+4"],
    ["5! + 3", "5 + 3"],
    ["x - 3 = 0", "x + 3 = 0", "x*3 = 0", "x = 0"],
    ["x < 3", "x > 3", "x ≤ 3"],
    ["2x - 3", "2x + 3", "2x3"],
    ["10²", "102"],
    ["1½", "11/2"],
    ["5% of 20", "5 of 20"],
    ["€5", "£5"],
    ["1990-1995", "1990 1995", "19901995"],
    ["Who is it?", "Who was it?"],
    ["की?", "का?"],
    ["が", "か"],
    ["мой", "мои"],
    ["???", "!!!"],
    ["🌍", "🌙"],
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=map(str, range(len(SAME))))
def test_what_is_only_spelling_goes_together(one, other):
    assert normalise_question(one) == normalise_question(other)


@pytest.mark.parametrize("questions", APART, ids=map(str, range(len(APART))))
def test_what_changes_the_meaning_stays_apart(questions):
    assert len({normalise_question(question) for question in questions}) == len(questions)


def test_every_sum_is_a_question_of_its_own():
    """However it is spaced; negative numbers and decimals included."""
    numbers = [*range(-12, 13), 0.5, 1.5, 12.5, 1000, -2.5]
    keys = set()
    count = 0
    for a, b, sign in itertools.product(numbers, numbers, "+-*/"):
        spaced = {
            normalise_question(text)
            for text in (
                f"What is {a} {sign} {b}?",
                f"what is {a}{sign}{b}",
                f"What is {a}{sign} {b}",
            )
        }
        assert len(spaced) == 1, (a, sign, b)
        keys |= spaced
        count += 1
    assert len(keys) == count


MARKS = [*"-—'’\"?!_", " – ", "...", ", ", "; ", " (", ") ", "\u00a0", "\u200b"]


@pytest.mark.parametrize("seed", range(5))
def test_punctuation_and_spaces_between_words_never_separate(seed):
    words = ["who", "was", "the", "first", "European", "explorer", "of", "southern", "Greenland"]
    drawn = random.Random(seed)
    key = normalise_question(" ".join(words))
    for _ in range(50):
        text = "".join(
            (word.upper() if drawn.random() < 0.3 else word) + drawn.choice([*MARKS, " ", "  ", ""])
            for word in words
        )
        assert normalise_question(text) == key, text


@pytest.mark.parametrize("seed", range(5))
def test_one_more_sign_or_another_digit_always_separates(seed):
    drawn = random.Random(seed)
    for _ in range(100):
        numbers = [drawn.randrange(1, 100) for _ in range(3)]
        signs = [drawn.choice("+-*/") for _ in range(2)]
        text = f"{numbers[0]} {signs[0]} {numbers[1]} {signs[1]} {numbers[2]}"
        other = drawn.choice([sign for sign in "+-*/^=" if sign != signs[0]])
        changed = [
            text.replace(f" {signs[0]} ", f" {other} ", 1),
            f"-{text}",
            f"{text}0",
            f"{text}.5",
            f"{text} 1",
            text.replace(f" {signs[0]} ", " ", 1),
        ]
        assert normalise_question(text) not in {normalise_question(other) for other in changed}


def test_the_built_in_facts_are_all_apart():
    questions = build_facts()["question"]
    assert questions.map(normalise_question).is_unique


# Near-duplicates.

ASK_THE_SAME = [
    ("What is the capital city of France?", "Which city is the capital of France?"),
    ("In which year did World War II end?", "In what year did World War II end?"),
    ("What is the largest planet in the solar system?",
     "Which planet is the largest in our solar system?"),
    ("Who painted the Mona Lisa?", "The Mona Lisa was painted by whom?"),
    ("What is the chemical symbol for bread?", "What chemical symbol does bread have?"),
    ("How many continents are there?", "How many continents are there in the world?"),
    ("Which river is the longest in Africa?", "What is the longest river of Africa?"),
    ("In what country is the city of Timbuktu?", "Timbuktu is a city in which country?"),
    ("Who is the president of the United States?",
     "Who is the current president of the United States?"),
    ("What does DNA stand for?", "DNA stands for what?"),
    ("Which element has the atomic number 26?", "What element has atomic number 26?"),
    ("Name the author of Emma.", "Which author wrote Emma, please?"),
    ("Tom has 5 apples and eats 2. How many are left?",
     "Tom has 5 apples. He eats 2 apples. How many apples are left?"),
    ("What is the currency used in Narnia?", "Which currency is used in Narnia?"),
    ("What nationality was Marie Curie?", "What was the nationality of Marie Curie?"),
]  # fmt: skip
# Words of the same meaning are not known as such.
TOO_HARD = [
    ("Who wrote Hamlet?", "Who was the author of Hamlet?"),
    ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
    ("When did the war end?", "In what year did the war end?"),
]
ASK_SOMETHING_ELSE = [
    ("Who wrote Hamlet?", "Who wrote Macbeth?"),
    ("When was Albert Einstein born?", "When did Albert Einstein die?"),
    ("When was Isaac Newton born?", "Where was Isaac Newton born?"),
    ("In which year was the film Titanic released?", "In which year was the film Avatar released?"),
    ("In which year was the film Alien released?", "Which studio released the film Alien?"),
    ("What is the largest state in Africa by area?", "What is the largest state in Asia by area?"),
    ("What is the largest lake in Peru by area?", "What is the smallest lake in Peru by area?"),
    ("Who was the first king of Norway?", "Who was the second king of Norway?"),
    ("What is the tallest peak of the Alps?", "What is the second tallest peak of the Alps?"),
    ("Is it true that cats are birds?", "Is it true that cats are not birds?"),
    ("Which team won the 1998 World Cup?", "Which team won the 2002 World Cup?"),
    ("Sue has 5 pears, eats 2. How many are left?", "Sue has 7 pears, eats 3. How many are left?"),
    ("What is 12 minus 7?", "What is 7 minus 12?"),
    ("What is the square root of 49?", "What is the square root of 64?"),
    ("Who played Neo in The Matrix?", "Who played Trinity in The Matrix?"),
    ("What does RNA stand for?", "What does ATP stand for?"),
]  # fmt: skip


def near(questions):
    """{frozenset of two questions: similarity} of the near-duplicates among `questions`."""
    table = pd.DataFrame({"question_id": range(10, 10 + len(questions)), "question": questions})
    table["split_group"] = pd.factorize(table["question"].map(normalise_question))[0]
    found = find_near_duplicates(table)
    assert (found["question_id"] < found["other_id"]).all()
    assert found["similarity"].between(0.8, 1).all()
    text = table.set_index("question_id")["question"]
    return {
        frozenset((text[row.question_id], text[row.other_id])): row.similarity
        for row in found.itertuples()
    }


@pytest.mark.parametrize("facts", [False, True], ids=["alone", "among facts"])
def test_near_duplicates_are_found_and_others_are_not(facts):
    pairs = [*ASK_THE_SAME, *TOO_HARD, *ASK_SOMETHING_ELSE]
    questions = [question for pair in pairs for question in pair]
    others = build_facts()["question"].tolist() if facts else []
    found = near([*questions, *others])
    of_pairs = {pair for pair in found if pair <= set(questions)}
    assert of_pairs == {frozenset(pair) for pair in ASK_THE_SAME}


def test_a_pair_alone_is_found():
    assert near(list(ASK_THE_SAME[0])) == {frozenset(ASK_THE_SAME[0]): 1.0}


def test_the_built_in_facts_and_sums_have_no_near_duplicates():
    assert near(build_facts()["question"].tolist()) == {}
    sums = [
        f"What is {a} {sign} {b}?" for a in range(10, 30) for b in range(10, 30) for sign in "+-"
    ]
    assert near(sums) == {}


def test_one_template_in_another_language_and_script():
    countries = ["Peru", "Kuba", "Chile", "Togo", "Mali", "Iran", "Oman", "Laos", "Nepal", "Malta"]
    asked = ["Hauptstadt", "Währung", "Amtssprache", "Bevölkerung"]
    german = [f"Was ist die {what} von {country}?" for what in asked for country in countries]
    assert near(german) == {}
    chinese = [f"{country}的{what}是什么？" for country in ("法国", "秘鲁", "乍得", "古巴", "智利")
               for what in ("首都", "货币")]  # fmt: skip
    assert near(chinese) == {}
    pair = ["世界上最长的河流是哪一条？", "世界上最长的河流是哪条？"]
    assert set(near([*chinese, *pair])) == {frozenset(pair)}


def test_questions_of_one_split_group_are_no_near_duplicates():
    assert near(["Who painted the Mona-Lisa?", "who painted the Mona Lisa"]) == {}


def test_each_question_has_its_most_similar_one_and_each_pair_once():
    questions = [
        "Which river is the longest river in Africa today?",
        "What is the longest river of Africa?",
        "Longest river in Africa?",
        "Which river is the longest in Africa, today?",
    ]
    table = pd.DataFrame({"question_id": [3, 2, 1, 0], "question": questions})
    table["split_group"] = [0, 1, 2, 3]
    found = find_near_duplicates(table)
    assert found[["question_id", "other_id"]].to_numpy().tolist() == [[0, 3], [1, 2]]
    assert found["similarity"].tolist() == [1.0, 1.0]
    pd.testing.assert_frame_equal(find_near_duplicates(table), found)


@pytest.mark.parametrize(
    "questions", [[], ["Who?"], ["???", "!!!"], ["What is it?", "Is it that?"]]
)
def test_questions_without_words_have_none(questions):
    assert near(questions) == {}


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_found_are_those_of_all_pairs(seed):
    """Words of every frequency, in questions of one to nine of them."""
    drawn = random.Random(seed)
    words = [f"w{''.join(drawn.choices('abcdef', k=4))}" for _ in range(30)]
    weights = [1 / (place + 1) for place in range(30)]
    texts = [" ".join(drawn.choices(words, weights, k=drawn.randint(1, 9))) for _ in range(400)]
    table = pd.DataFrame({"question_id": range(400), "question": texts, "split_group": range(400)})
    table["split_group"] //= 2
    found = find_near_duplicates(table)
    assert len(found) > 100
    sets = duplicates._find_words(texts)
    weighted, plain = (
        TfidfVectorizer(analyzer=list, use_idf=use_idf, binary=True).fit_transform(sets).toarray()
        for use_idf in (True, False)
    )
    every = np.minimum(weighted @ weighted.T, plain @ plain.T).round(6)
    every[table["split_group"].to_numpy()[:, None] == table["split_group"].to_numpy()] = 0
    best = every.argmax(axis=1)
    pairs = {
        (min(one, other), max(one, other)): every[one, other]
        for one, other in enumerate(best.tolist())
        if every[one, other] >= duplicates.SIMILARITY
    }
    rows = [(*pair, value) for pair, value in sorted(pairs.items())]
    assert found.to_numpy().tolist() == [[*map(float, row)] for row in rows]


def test_twenty_thousand_questions_take_seconds():
    """Blocks of a sparse matrix: neither the time nor the memory of all pairs at once."""
    drawn = random.Random(0)
    names = ["".join(drawn.choices("abcdefghijklmnop", k=6)) for _ in range(3000)]
    asked = ["capital", "currency", "language", "president"]
    questions = [
        f"What is the {drawn.choice(asked)} of {drawn.choice(names)} {number:05d}?"
        for number in range(20_000)
    ]
    questions[77] = f"Which is the {questions[15_000].removeprefix('What is the ')}"
    assert near(questions) == {frozenset((questions[77], questions[15_000])): 1.0}
