"""Kinds of error at every boundary of the taxonomy, clusters and entropies of planted samples."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from llm_figures.questions.error_kinds import KINDS, assign_kinds, find_kind, measure_entropy
from llm_figures.questions.option_checks import resampling_problem
from llm_figures.questions.options import ExactAnswer, Judge
from llm_figures.questions.resampling_options import ErrorTaxonomy
from llm_figures.questions.samples import choose_questions, judge_samples

PUBLISHED = ErrorTaxonomy()


@pytest.mark.parametrize(
    ("count", "abstained", "right", "largest_wrong", "different", "kind"),
    [
        # count, abstained, right, largest wrong, different
        (30, 15, 15, 0, 1, "refuses"),
        (30, 14, 16, 0, 1, "right_mostly"),
        (30, 0, 30, 0, 1, "right_always"),
        (30, 0, 29, 1, 2, "right_mostly"),
        (30, 0, 15, 15, 2, "right_mostly"),
        (30, 0, 14, 15, 3, "wrong_mostly"),
        (30, 0, 0, 15, 9, "wrong_always"),
        (30, 0, 1, 15, 9, "wrong_mostly"),
        (30, 0, 14, 14, 3, "two_competing"),
        (30, 0, 5, 10, 5, "two_competing"),
        (30, 0, 10, 5, 5, "two_competing"),
        (30, 0, 5, 11, 5, "other"),
        (30, 0, 4, 5, 5, "other"),
        (30, 0, 4, 5, 10, "other"),
        (30, 0, 4, 5, 11, "many_sometimes_right"),
        (30, 0, 0, 5, 11, "many_never_right"),
        (30, 0, 0, 5, 10, "other"),
        # scaled to ten: 5, 5/3, 5/3 and 10/3
        (10, 5, 0, 5, 1, "refuses"),
        (10, 4, 5, 0, 1, "right_mostly"),
        (10, 0, 4, 5, 3, "wrong_mostly"),
        (10, 0, 3, 4, 4, "two_competing"),
        (10, 0, 2, 3, 5, "two_competing"),
        (10, 0, 2, 4, 5, "many_sometimes_right"),
        (10, 0, 1, 2, 4, "many_sometimes_right"),
        (10, 0, 1, 2, 3, "other"),
        (10, 0, 0, 4, 4, "many_never_right"),
        (10, 0, 0, 0, 0, "other"),
    ],
)
def test_every_boundary(count, abstained, right, largest_wrong, different, kind):
    assert find_kind(count, abstained, right, largest_wrong, different, PUBLISHED) == kind


def test_thresholds_are_those_of_the_config():
    strict = PUBLISHED.changed(consistent=30, competing_apart=0, many=29)
    assert find_kind(10, 0, 9, 1, 2, strict) == "other"
    assert find_kind(10, 0, 5, 5, 2, strict) == "two_competing"
    assert find_kind(10, 0, 0, 1, 10, strict) == "many_never_right"
    # a threshold of 0 does not make two answers of one
    assert find_kind(10, 0, 0, 2, 2, PUBLISHED.changed(competing=0)) == "other"


def questions(count=2):
    return pd.DataFrame(
        {
            "question_id": np.arange(count) + 7,
            "question": "What is the capital of France?",
            "aliases": [["Paris"]] * count,
            "frame": "The capital of France is",
            "choices": None,
            "label": pd.array([None] * count, dtype="boolean"),
        }
    )


def generations(answers, question=7):
    """answers: texts, one token a character, each of log-probability −0.1."""
    return pd.DataFrame(
        {
            "question_id": question,
            "sample": range(len(answers)),
            "answer": answers,
            "answer_ids": [[*map(ord, text)] for text in answers],
            "token_starts": [[*range(len(text))] for text in answers],
            "token_ends": [[*range(1, len(text) + 1)] for text in answers],
            "token_log_probabilities": [[-0.1] * len(text) for text in answers],
            "prompt_ids": [[1]] * len(answers),
            "cut": False,
            "problem": "",
        }
    )


def say(*names):
    return [name and f"The capital of France is {name}." for name in names]


def judge(*answers):
    table = pd.concat([generations(own, 7 + at) for at, own in enumerate(answers)])
    return judge_samples(questions(len(answers)), table.sample(frac=1), ExactAnswer(), Judge())


@pytest.mark.parametrize("key", ["refuses", "consistent"])
def test_no_threshold_makes_every_question_of_one_kind(key):
    with pytest.raises(ValidationError, match="greater than 0"):
        ErrorTaxonomy(**{key: 0})


def test_samples_are_judged_and_clustered_by_their_exact_answers():
    own = [
        *say("Paris", "Lyon", "the city of Lyon", "LYON", "paris"),
        "The capital of France is Lyon, I think.",
        "I don't know.",
        "I do not know that.",
        "Nothing of the kind.",
        "",
    ]
    samples = judge(say("Nice"), own)
    assert list(samples["question_id"]) == [7] + [8] * len(own)
    assert list(samples["sample"]) == [0, *range(len(own))]
    found = samples.iloc[1:]
    assert list(found["correct"]) == [True, False, False, False, True] + [False] * 5
    assert list(found["cluster"])[:2] == [0, 1]
    assert found["cluster"].iloc[3] == 1  # case is no difference
    assert found["cluster"].iloc[4] == 0
    assert list(found["abstained"])[6:] == [True, True, False, False]
    clusters = list(found["cluster"])
    assert clusters[6] == clusters[7] not in clusters[:6]
    assert clusters[8:] == [-1, -1]
    assert list(found["valid"])[6:] == [False] * 4
    np.testing.assert_allclose(
        samples["log_probability"], [-0.1 * len(text) for text in samples["answer"]]
    )


def test_every_question_has_exactly_one_kind():
    samples = judge(
        say(*["Paris"] * 10),
        say(*["Paris"] * 9, "Lyon"),
        say(*["Lyon"] * 6, *["Nice"] * 4),
        say(*["Lyon"] * 6, "Paris", *["Nice"] * 3),
        say(*["Lyon"] * 4, *["Paris"] * 4, *["Nice"] * 2),
        say("A", "B", "C", "D", "E", "F", "G", "H", "I", "J"),
        say("Ulm", "Bonn", "Cork", "Rom", "Paris", "Oslo", "Genf", "Wien", "Riga", "Kiel"),
        ["I don't know."] * 6 + say(*["Paris"] * 4),
        [""] * 10,
    )
    kinds = assign_kinds(samples, PUBLISHED)
    assert list(kinds["question_id"]) == list(range(7, 16))
    assert list(kinds["kind"]) == [
        "right_always", "right_mostly", "wrong_always", "wrong_mostly", "two_competing",
        "many_never_right", "many_sometimes_right", "refuses", "other",
    ]  # fmt: skip
    assert set(kinds["kind"]) == set(KINDS)
    assert (kinds["samples"] == 10).all()
    assert list(kinds["right"]) == [10, 9, 0, 1, 4, 0, 1, 4, 0]
    assert list(kinds["different"]) == [1, 2, 2, 3, 3, 10, 10, 1, 0]
    assert kinds["semantic_entropy"].iloc[0] == 0
    assert kinds["semantic_entropy"].iloc[5] == pytest.approx(np.log(10))
    assert np.isnan(kinds["semantic_entropy"].iloc[8])


def test_entropies_by_hand():
    samples = pd.DataFrame(
        {
            "cluster": [0, 0, 1, 2, -1],
            "answer": ["a", "a", "b", "c", ""],
            "log_probability": np.log([0.4, 0.4, 0.1, 0.3, 1.0]),
        }
    )
    by_share, by_probability = measure_entropy(samples)
    assert by_share == pytest.approx(-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)))
    # equal answers count once, and 0.4 + 0.1 + 0.3 is made 1
    weights = np.array([0.5, 0.125, 0.375])
    assert by_probability == pytest.approx(-(weights * np.log(weights)).sum())


def test_limited_questions_are_sampled_with_the_seed():
    table = questions(50)
    assert len(choose_questions(table, None, 0)) == 50
    chosen = choose_questions(table, 40, 0)
    assert len(chosen) == 40
    assert chosen["question_id"].is_monotonic_increasing
    assert list(chosen["question_id"]) == list(choose_questions(table, 40, 0)["question_id"])
    assert list(chosen["question_id"]) != list(choose_questions(table, 40, 1)["question_id"])


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("judge", "method", "model", "config: judge.method: model: would ask"),
        ("exact_answer", "method", "model", "config: exact_answer.method: model: would ask"),
        ("prompt", "temperature", 0.5, "config: prompt.temperature: 0.5: error_kinds and"),
        ("dataset", "response", "said", "config: dataset.response: error_kinds and"),
    ],
)
def test_a_config_whose_samples_cannot_be_judged(default_config, section, key, value, message):
    assert resampling_problem(default_config) == ""
    default_config[section][key] = value
    assert resampling_problem(default_config).startswith(message)
