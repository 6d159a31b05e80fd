"""Exact answers and labels of generated answers: the rows of forward/answers.parquet."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.questions.options import ExactAnswer
from llm_figures.questions.spans import check_pattern, find_exact_answer, is_correct, overlapping

# With fewer answers of a label, each of five folds would hold less than four of it.
FEWEST_OF_A_LABEL = 20


def judge_answers(
    questions: pd.DataFrame,
    generations: pd.DataFrame,
    options: ExactAnswer,
    quotes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Locate every exact answer without using the gold answer, then judge it.

    questions: as from `questions.load_questions`. A question with a `label` (True or False) is
        judged by it, any other by whether one of its `aliases` occurs in the exact answer.
    generations: question_id, answer; optionally prompt_ids, answer_ids, token_starts and token_ends
        (characters of the answer), token_log_probabilities (natural logarithms, one per token of
        the answer) and problem (why there is no answer, else "").
    options: see `spans.find_exact_answer`. quotes: question_id and quote, for the method model.

    Returns one row per question in the order of `questions`: the columns of both frames and

        valid: whether there is an exact answer; problem: why there is none, else "".
        span_start, span_end: its characters within `answer`, else -1.
        exact_answer: its text, else "".
        correct: False if not valid.
        answer_log_probability, exact_answer_log_probability: means over the tokens of the answer,
            and over those that overlap the exact answer; NaN without any.

    Raises:
        UserError: a pattern that is not a regular expression, a question without an answer.
    """
    if options.method == "regex":
        check_pattern(options.pattern)
    unanswered = questions[~questions["question_id"].isin(generations["question_id"])]
    if len(unanswered):
        raise UserError(
            f"answers: none for {len(unanswered)} of {len(questions)} questions, for example "
            f"question_id {unanswered['question_id'].iloc[0]}; generate the answers again"
        )
    answers = questions.merge(generations, on="question_id", validate="one_to_one")
    quote_of = {} if quotes is None else quotes.set_index("question_id")["quote"].to_dict()
    spans, problems = [], []
    for question_id, answer, frame, problem in zip(
        answers["question_id"],
        answers["answer"],
        _column(answers, "frame"),
        _column(answers, "problem"),
        strict=True,
    ):
        span, problem = None, _text(problem)
        if not problem:
            quote = _text(quote_of.get(question_id))
            span, problem = find_exact_answer(answer, _text(frame), options, quote)
        spans.append(span)
        problems.append(problem)
    answers["valid"] = [span is not None for span in spans]
    answers["problem"] = problems
    answers["span_start"] = [span[0] if span else -1 for span in spans]
    answers["span_end"] = [span[1] if span else -1 for span in spans]
    answers["exact_answer"] = [
        answer[slice(*span)] if span else ""
        for answer, span in zip(answers["answer"], spans, strict=True)
    ]
    # Nothing above this line uses the gold answers or the labels.
    answers["correct"] = [
        valid and (is_correct(exact, aliases) if pd.isna(label) else bool(label))
        for valid, exact, aliases, label in zip(
            answers["valid"],
            answers["exact_answer"],
            _column(answers, "aliases"),
            _column(answers, "label"),
            strict=True,
        )
    ]
    return answers.assign(**_mean_log_probabilities(answers, spans))


def check_labels(answers: pd.DataFrame, report: str) -> None:
    """Check that there are enough right and wrong answers for a probe.

    Held-out questions are counted separately.

    answers: columns question_id, answer, valid, correct, hold_out. report: the file that messages
        refer to.

    Raises:
        UserError: fewer than `FEWEST_OF_A_LABEL` right or wrong answers.
    """
    for held_out, rows in answers.groupby("hold_out"):
        valid = rows[rows["valid"]]
        right = int(valid["correct"].sum())
        wrong = len(valid) - right
        if min(right, wrong) < FEWEST_OF_A_LABEL:
            shown = "; ".join(map(repr, rows.sort_values("question_id")["answer"][:3]))
            raise UserError(
                f"dataset: {right} right and {wrong} wrong answers with a valid exact answer"
                f"{' among the held-out questions' if held_out else ''}; the probe needs at least "
                f"{FEWEST_OF_A_LABEL} of each. First answers: {shown}. See {report}; add "
                "questions, or change prompt or exact_answer"
            )


def _mean_log_probabilities(
    answers: pd.DataFrame, spans: Sequence[tuple[int, int] | None]
) -> dict[str, list[float]]:
    whole, exact = [], []
    for span, values, starts, ends in zip(
        spans,
        _column(answers, "token_log_probabilities"),
        _column(answers, "token_starts"),
        _column(answers, "token_ends"),
        strict=True,
    ):
        values = [] if values is None else values
        inside = overlapping(starts, ends, span) if span and len(values) else []
        whole.append(_mean(values))
        exact.append(_mean([values[index] for index in inside]))
    return {"answer_log_probability": whole, "exact_answer_log_probability": exact}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _column(frame: pd.DataFrame, name: str) -> list:
    return frame[name].tolist() if name in frame else [None] * len(frame)


def _text(value) -> str | None:
    return value if isinstance(value, str) else None
