"""Exact answers and labels of generated answers: the rows of forward/answers.parquet."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.questions.judging.abstentions import abstains
from llm_figures.questions.judging.judges import Judgement, could_match, judge, names_option
from llm_figures.questions.log_probabilities import PARTS, SUFFIXES
from llm_figures.questions.options import ExactAnswer, Judge
from llm_figures.questions.spans import EMPTY, check_pattern, find_exact_answer, overlapping

# With fewer answers of a label, each of five folds would hold less than four of it.
FEWEST_OF_A_LABEL = 20

# By the ends of the columns' names.
_SUMMARIES = dict(
    zip(SUFFIXES, (np.mean, np.sum, np.min, np.max, lambda values: values[-1]), strict=True)
)

# Why an answer with an exact answer is left out of the probe.
ABSTAINED = "the answer abstains"
CUT = "the answer was cut at max_new_tokens"
OFF_OPTION = "the answer names none of the options"
UNMATCHED = "no answer could match its right answers"
UNCLEAR = "the judge says neither right nor wrong"
# An abstention is looked for in so much of an answer without an exact answer.
_BEGINNING = 300


def judge_answers(
    questions: pd.DataFrame,
    generations: pd.DataFrame,
    exact_answer: ExactAnswer,
    judging: Judge,
    quotes: pd.DataFrame | None = None,
    replies: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Locate every exact answer without using the gold answer, then judge it.

    questions: as from `questions.load_questions`. A question with a `label` (True or False) is
        judged by it, any other by the judge from its `aliases`. Of a question with `choices` or
        `wrong_answers`, the options are known.
    generations: question_id, answer; optionally cut, prompt_ids, answer_ids, token_starts and
        token_ends (characters of the answer), token_log_probabilities (natural logarithms, one per
        token of the answer) and problem (why there is no answer, else "").
    quotes: question_id and quote, for the method model of exact_answer. replies: question_id and
        reply, for the method model of the judge.

    Returns one row per question in the order of `questions`: the columns of both frames and

        valid: whether the answer can be probed; problem: why not, else "".
        span_start, span_end: characters of the exact answer within `answer`, else -1.
        exact_answer: its text, else "".
        abstained: whether the answer declines to answer. cut: whether max_new_tokens cut it off.
        off_option: whether it names none of the question's options; False where they are unknown.
        correct: False if not valid. judged_by: label, the judge's method, or the rule of it that
            decided (`judging.rules`); "" if not valid.
        doubt: why a person should look at the judgement (`judging.judges.DOUBTS`), else "".
        answer_log_probability, exact_answer_log_probability: means over the tokens of the answer,
            and over those that overlap the exact answer; NaN without any. The same with _sum,
            _min, _max and _last: their sum, least, greatest and last.

    Raises:
        UserError: a pattern that is not a regular expression, a question without an answer.
    """
    answers = locate_exact_answers(questions, generations, exact_answer, quotes)
    # Nothing above this line uses the gold answers or the labels.
    reply_of = {} if replies is None else replies.set_index("question_id")["reply"].to_dict()
    judgements = [
        _judge(row, exact_answer, judging, reply_of) for row in answers.to_dict("records")
    ]
    answers["problem"] = [
        _find_problem(row, judgement, judging)
        for row, judgement in zip(answers.to_dict("records"), judgements, strict=True)
    ]
    answers["valid"] = answers["problem"].eq("")
    answers["off_option"] = [judgement.off_option for judgement in judgements]
    for column, name, empty in (
        ("correct", "right", False),
        ("judged_by", "rule", ""),
        ("doubt", "doubt", ""),
    ):
        answers[column] = [
            getattr(judgement, name) if valid else empty
            for judgement, valid in zip(judgements, answers["valid"], strict=True)
        ]
    spans = [
        (row.span_start, row.span_end) if row.span_start >= 0 else None
        for row in answers.itertuples()
    ]
    return answers.assign(**_summarise_log_probabilities(answers, spans))


def locate_exact_answers(
    questions: pd.DataFrame,
    generations: pd.DataFrame,
    options: ExactAnswer,
    quotes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The columns of both frames, and problem, span_start, span_end, exact_answer, abstained, cut.

    The arguments are those of `judge_answers`, which explains the columns. An answer of which the
    problem is "" has an exact answer.
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
    answers["problem"] = problems
    answers["span_start"] = [span[0] if span else -1 for span in spans]
    answers["span_end"] = [span[1] if span else -1 for span in spans]
    answers["exact_answer"] = [
        answer[slice(*span)] if span else ""
        for answer, span in zip(answers["answer"], spans, strict=True)
    ]
    answers["abstained"] = [
        abstains(exact or answer[:_BEGINNING])
        for exact, answer in zip(answers["exact_answer"], answers["answer"], strict=True)
    ]
    answers["cut"] = [bool(cut) for cut in _column(answers, "cut")]
    return answers


def check_labels(answers: pd.DataFrame, report: str) -> None:
    """Check that there are enough right and wrong answers for a probe.

    Held-out questions are counted separately.

    answers: columns question_id, answer, valid, problem, correct, hold_out. report: the file that
        messages refer to.

    Raises:
        UserError: fewer than `FEWEST_OF_A_LABEL` right or wrong answers.
    """
    for held_out, rows in answers.groupby("hold_out"):
        valid = rows[rows["valid"]]
        right = int(valid["correct"].sum())
        wrong = len(valid) - right
        if min(right, wrong) >= FEWEST_OF_A_LABEL:
            continue
        first = rows.sort_values("question_id")["answer"][:3]
        shown = "; ".join(repr(answer) if answer.strip() else "(empty)" for answer in first)
        problems = Counter(rows.loc[~rows["valid"], "problem"]) if "problem" in rows else {}
        reasons = "; ".join(
            f"{count}: {problem}" for problem, count in sorted(problems.items(), key=_most_first)
        )
        raise UserError(
            f"dataset: {right} right and {wrong} wrong answers with a valid exact answer"
            f"{' among the held-out questions' if held_out else ''}; the probe needs at least "
            f"{FEWEST_OF_A_LABEL} of each. First answers: {shown}. "
            f"{f'Left out: {reasons}. ' if reasons else ''}See {report}; {_advise(problems, rows)}"
        )


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _advise(problems: dict[str, int], rows: pd.DataFrame) -> str:
    """What to change, by the reason that most answers were left out for."""
    most = max(problems, key=problems.get, default="")
    if problems.get(most, 0) * 2 < len(rows):
        most = ""
    return {
        UNMATCHED: "check dataset.answer, or choose another judge.method",
        ABSTAINED: "change prompt, or set judge.abstentions: wrong",
        CUT: "raise prompt.max_new_tokens",
        OFF_OPTION: "change prompt so that answers name an option, or set judge.off_options: wrong",
        UNCLEAR: "change judge.prompt",
        EMPTY: "the model ends its answers at once: change prompt.template or prompt.stop, or "
        "solve some questions of this kind in prompt.preamble",
    }.get(most, "add questions, or change prompt, exact_answer or judge")


def _find_problem(row: dict, judgement: Judgement, judging: Judge) -> str:
    """Why an answer is not valid, else "". A dataset's label stands for abstentions, too."""
    if row["abstained"] and judging.abstentions == "leave_out" and judgement.rule != "label":
        return ABSTAINED
    if not row["problem"] and row["cut"] and judging.cut == "leave_out":
        return CUT
    if judgement.off_option and judging.off_options == "leave_out":
        return OFF_OPTION
    return row["problem"] or (judgement.doubt if not judgement.rule else "")


def _judge(
    row: dict, exact_answer: ExactAnswer, judging: Judge, reply_of: dict[int, str]
) -> Judgement:
    """The judgement of one located answer; one without a rule has the problem as its doubt."""
    exact = row["exact_answer"]
    if row["problem"] or not exact:
        return Judgement(False, "")
    label = row.get("label")
    if label is not None and not pd.isna(label):
        return Judgement(bool(label), "label")
    if judging.method == "model":
        return read_reply(_text(reply_of.get(row["question_id"])), judging)
    aliases, choices, wrong = (
        _items(row.get(name)) for name in ("aliases", "choices", "wrong_answers")
    )
    subject = (row["question"], choices, judging.applied_rules())
    if row["abstained"]:
        judgement = Judgement(False, "abstention")
    else:
        judgement = judge(judging.method, exact, aliases, *subject)
    off_option = False
    if judgement.right:
        doubt = judgement.doubt
    elif not could_match(judging.method, aliases, *subject, _text(row.get("frame")), exact_answer):
        return Judgement(False, "", UNMATCHED)
    else:
        doubt = judgement.doubt
        others = wrong or [text for text in choices if text not in aliases]
        if others and not row["abstained"]:
            off_option = not names_option(exact, aliases, others, *subject)
        elsewhere = row["answer"][: row["span_start"]] + " | " + row["answer"][row["span_end"] :]
        if not doubt and judge("contains", elsewhere, aliases, *subject).right:
            doubt = "the gold answer occurs elsewhere in the answer"
    if not doubt and row["cut"] and not row["answer"][row["span_end"] :].strip():
        doubt = CUT
    return Judgement(judgement.right, judgement.rule, doubt, off_option)


def read_reply(reply: str | None, judging: Judge) -> Judgement:
    """The judgement that a judging model's reply begins with."""
    text = (reply or "").lstrip(" \t\n\"'*_“(").casefold()
    for word, right in ((judging.if_right, True), (judging.if_wrong, False)):
        rest = text.removeprefix(word.strip().casefold())
        if rest != text and not rest[:1].isalnum():
            return Judgement(right, "model")
    return Judgement(False, "", UNCLEAR)


def _summarise_log_probabilities(
    answers: pd.DataFrame, spans: Sequence[tuple[int, int] | None]
) -> dict[str, list[float]]:
    """{column of `LOG_PROBABILITIES`: a value for each answer}."""
    parts: dict[str, list[Sequence[float]]] = {part: [] for part in PARTS}
    for span, values, starts, ends in zip(
        spans,
        _column(answers, "token_log_probabilities"),
        _column(answers, "token_starts"),
        _column(answers, "token_ends"),
        strict=True,
    ):
        values = [] if values is None else values
        inside = overlapping(starts, ends, span) if span and len(values) else []
        parts["answer"].append(values)
        parts["exact_answer"].append([values[index] for index in inside])
    return {
        f"{part}_log_probability{suffix}": [
            float(summarise(values)) if len(values) else float("nan") for values in of_answers
        ]
        for part, of_answers in parts.items()
        for suffix, summarise in _SUMMARIES.items()
    }


def _column(frame: pd.DataFrame, name: str) -> list:
    return frame[name].tolist() if name in frame else [None] * len(frame)


def _items(value) -> list[str]:
    return [] if value is None else list(value)


def _text(value) -> str | None:
    return value if isinstance(value, str) else None
