"""Generated answers with their exact answers and labels: rows of forward/answers.parquet."""

import pandas as pd

from llm_figures.spans import exact_answer, is_correct


def judged_answers(questions: pd.DataFrame, generations: pd.DataFrame) -> pd.DataFrame:
    """Find every exact answer without looking at the right one, then judge it.

    questions: as from `questions.load_questions`. generations: question_id, prompt_ids,
    answer_ids, answer, token_starts, token_ends.

    Returns one row per question in the order of `questions`: both frames' columns, span_start and
    span_end (characters within `answer`; -1 where there is none), exact_answer, valid, correct
    (False where not valid).
    """
    answers = questions.merge(generations, on="question_id", validate="one_to_one")
    spans = [
        exact_answer(answer, frame if isinstance(frame, str) else None)
        for answer, frame in zip(answers["answer"], answers["frame"], strict=True)
    ]
    answers["valid"] = [span is not None for span in spans]
    answers["span_start"] = [span[0] if span else -1 for span in spans]
    answers["span_end"] = [span[1] if span else -1 for span in spans]
    answers["exact_answer"] = [
        answer[slice(*span)] if span else ""
        for answer, span in zip(answers["answer"], spans, strict=True)
    ]
    answers["correct"] = [
        valid and is_correct(exact, aliases)
        for valid, exact, aliases in zip(
            answers["valid"], answers["exact_answer"], answers["aliases"], strict=True
        )
    ]
    return answers
