"""The built-in sets of questions beside the facts."""

import re
from typing import get_args

import numpy as np
import pytest

from judged_answers import is_right
from llm_figures.questions import airports
from llm_figures.questions.arithmetic import spell_number
from llm_figures.questions.built_in import SETS, build_set
from llm_figures.questions.duplicates import normalise_question
from llm_figures.questions.options import FURTHER_SETS, Dataset, ExactAnswer
from llm_figures.questions.questions import load_questions
from llm_figures.questions.spans import find_exact_answer
from llm_figures.workflow.workload import BUILT_IN

FURTHER = [name for name in SETS if name != "facts"]


def test_sets_options_and_estimates_name_the_same():
    assert list(SETS) == list(get_args(Dataset.model_fields["name"].annotation)) == list(BUILT_IN)
    assert list(FURTHER_SETS) == FURTHER
    preamble_answers_one = {"facts": 1}
    for name, count in BUILT_IN.items():
        assert count == len(build_set(name)) - preamble_answers_one.get(name, 0)


@pytest.mark.parametrize("name", FURTHER)
def test_a_set_has_300_distinct_questions_with_frames_and_answers(name):
    questions = build_set(name)
    assert len(questions) >= 300
    assert questions["question"].map(normalise_question).is_unique
    assert questions["aliases"].map(len).min() >= 1
    assert questions.notna().all(axis=None)
    questions, left_out = load_questions(Dataset(name=name))
    assert left_out.empty
    assert questions["split_group"].is_unique


def test_no_question_is_asked_in_two_sets():
    asked = [set(build_set(name)["question"].map(normalise_question)) for name in SETS]
    assert len(set.union(*asked)) == sum(map(len, asked))


@pytest.mark.parametrize("name", FURTHER)
def test_a_right_answer_in_its_frame_is_located_and_judged_right(name):
    for row in build_set(name).itertuples():
        for alias in row.aliases:
            answer = f" {row.frame} {alias}."
            span, _ = find_exact_answer(answer, row.frame, ExactAnswer())
            assert span, answer
            assert is_right(answer[slice(*span)], row.aliases), answer


@pytest.mark.parametrize("name", FURTHER)
def test_a_frame_says_what_the_question_asks_and_nothing_of_the_answer(name):
    for row in build_set(name).itertuples():
        what = row.question.removeprefix("What is ").removesuffix("?")
        assert row.frame == f"{what[0].upper()}{what[1:]} is"


def test_airports_are_in_the_cities_that_travellers_know():
    aliases = build_set("airports").set_index("question")["aliases"]
    assert "Amman" in aliases["What is the city of Queen Alia International Airport?"]
    assert "Nairobi" in aliases["What is the city of Jomo Kenyatta International Airport?"]
    assert "Seoul" in aliases["What is the city of Incheon International Airport?"]


@pytest.mark.parametrize(
    ("airport", "answer"),
    [
        ("Erbil", "Erbil"),  # the data have Arbil
        ("Aktobe Aliya Moldagulova", "Aktobe"),  # and its former name
        ("Incheon", "Incheon"),
        ("Frankfurt am Main", "Frankfurt"),
        ("Kaohsiung", "Kaohsiung"),  # Kaohsiung City
        ("J B M Hertzog", "Bloemfontein"),  # misspelt
        ("Entebbe", "Entebbe"),
        ("Blaise Diagne", "Dakar"),
        ("Limon", "Limon"),
    ],
)
def test_another_name_of_the_city_and_the_city_that_is_served_are_right(airport, answer):
    aliases = build_set("airports").set_index("question")["aliases"]
    assert is_right(answer, aliases[f"What is the city of {airport} International Airport?"])


def test_every_further_name_is_of_an_airport_that_is_asked():
    asked = " ".join(build_set("airports")["question"])
    for name in airports.ALSO_RIGHT:
        assert f"of {name} International Airport?" in asked


def test_an_airport_on_an_island_without_a_city_is_not_asked():
    for aliases in build_set("airports")["aliases"]:
        assert not aliases[0].endswith((" Island", " Atoll", " District"))


def test_no_element_is_compared_whose_forms_differ_in_density():
    questions = build_set("elements")
    denser = " ".join(questions.loc[questions["group"] == "denser", "question"])
    assert "phosphorus" not in denser
    assert "carbon" not in denser


def test_elements_are_compared_by_masses_and_densities_that_differ_clearly():
    from periodictable import elements

    by_name = {element.name: element for element in elements}
    for row in build_set("elements").itertuples():
        kind, one, other = re.fullmatch(
            r"What is the (\w+) of (\w+) and (\w+)\?", row.question
        ).groups()
        column = {"heavier": "mass", "denser": "density"}[kind]
        values = {name: getattr(by_name[name], column) for name in (one, other)}
        right, wrong = sorted(values, key=values.get, reverse=True)
        assert row.aliases[0] == right
        assert row.wrong_answers[0] == wrong
        assert values[right] >= 1.2 * values[wrong]


def test_either_element_is_the_right_one_about_as_often():
    questions = build_set("elements")
    first = [
        row.question.split(" of ")[1].startswith(f"{row.aliases[0]} ")
        for row in questions.itertuples()
    ]
    assert 0.4 < np.mean(first) < 0.6


def test_sums_are_right():
    numbers = {spell_number(number): number for number in range(1000)}
    assert len(numbers) == 1000
    assert numbers["two hundred forty-one"] == 241
    for row in build_set("arithmetic").itertuples():
        kind, one, other = re.fullmatch(
            r"What is the (\w+) (?:of|between) ([a-z -]+) and ([a-z -]+)\?", row.question
        ).groups()
        a, b = numbers[one], numbers[other]
        expected = {"sum": a + b, "product": a * b, "difference": a - b}[kind]
        assert row.aliases == [str(expected), spell_number(expected)]
        assert expected > 0


def test_no_two_sums_are_of_the_same_numbers():
    questions = build_set("arithmetic")["question"]
    numbers = [frozenset(re.split(r" (?:of|between|and) |\?", text)) for text in questions]
    assert len(set(numbers)) == len(numbers)
