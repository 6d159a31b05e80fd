"""Exact answers, labels and clusters of sampled answers: the rows of forward/samples.parquet."""

from collections.abc import Collection, Hashable

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.questions.answers import judge_answers
from llm_figures.questions.judging.matching import drop_articles
from llm_figures.questions.judging.words import tokenise
from llm_figures.questions.options import ExactAnswer, Judge

COLUMNS = [
    "question_id", "sample", "answer", "exact_answer", "valid", "problem", "correct", "judged_by",
    "off_option", "abstained", "cut", "log_probability", "answer_log_probability", "cluster",
    "answer_ids", "token_starts", "token_ends", "span_start", "span_end",
]  # fmt: skip
# Of samples that are in no cluster.
NO_CLUSTER = -1


def choose_questions(questions: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """The rows of the questions that are sampled, in their order: `limit` of them, or all."""
    if limit is None or limit >= len(questions):
        return questions
    chosen = np.random.default_rng(seed).choice(len(questions), limit, replace=False)
    return questions.iloc[np.sort(chosen)]


def judge_samples(
    questions: pd.DataFrame,
    generations: pd.DataFrame,
    exact_answer: ExactAnswer,
    judging: Judge,
) -> pd.DataFrame:
    """Locate and judge the exact answer of every sample by the rules of the greedy answers.

    questions: as for `answers.judge_answers`. generations: as there, with a further column sample,
        the number of the sample among those of its question.

    Returns one row per question × sample, with `COLUMNS`: those of `judge_answers`, and

        log_probability: natural logarithm of the probability of all tokens of the answer, without
            what ends it: an answer is as probable as all that begin with it.
        cluster: the same number for samples of a question with the same exact answer, by
            `normalise_answer`, in the order of their first sample. All abstentions are one cluster;
            a sample without a valid exact answer is in none, `NO_CLUSTER`.

    Raises:
        UserError: as `judge_answers`; no samples.
    """
    if generations.empty:
        raise UserError("samples: there are none; sample the answers again")
    generations = generations.sort_values(["question_id", "sample"], ignore_index=True)
    # Equal samples are judged once. Each of the others is a question of its own to the judge.
    keys = [
        (row.question_id, tuple(row.answer_ids), row.answer, row.cut, row.problem)
        for row in generations.itertuples()
    ]
    distinct, first = pd.factorize(pd.Series(keys, dtype=object))[0], {}
    for at, number in enumerate(distinct):
        first.setdefault(number, at)
    unique = generations.iloc[[*first.values()]]
    asked = questions.set_index("question_id", drop=False).loc[unique["question_id"]]
    judged = judge_answers(
        asked.assign(question_id=np.arange(len(asked))).reset_index(drop=True),
        unique.assign(question_id=np.arange(len(unique))),
        exact_answer,
        judging,
    )
    samples = judged.iloc[distinct].reset_index(drop=True)
    samples["question_id"] = generations["question_id"].to_numpy()
    samples["sample"] = generations["sample"].to_numpy()
    samples["log_probability"] = [
        float(np.sum(logs, dtype=np.float64)) for logs in samples["token_log_probabilities"]
    ]
    rules = judging.applied_rules()
    samples["cluster"] = _find_clusters(samples, rules)
    return samples[COLUMNS]


def normalise_answer(exact: str, rules: Collection[str]) -> tuple[Hashable, ...]:
    """An exact answer as its words and quantities, without case, accents, marks and articles.

    rules: names of the judge's rules, of which those apply that read words and numbers.
    """
    words = drop_articles(tokenise(exact, frozenset(rules)))
    return tuple(word.key for word in words) or (exact.strip().casefold(),)


def _find_clusters(samples: pd.DataFrame, rules: Collection[str]) -> list[int]:
    """The cluster of each row; rows are in the order of question and sample."""
    clusters, number_of, current = [], {}, None
    for row in samples.itertuples():
        if row.question_id != current:
            number_of, current = {}, row.question_id
        if row.abstained:
            key: object = "abstained"
        elif row.valid:
            key = normalise_answer(row.exact_answer, rules)
        else:
            clusters.append(NO_CLUSTER)
            continue
        clusters.append(number_of.setdefault(key, len(number_of)))
    return clusters
