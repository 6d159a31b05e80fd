"""What the probe is taught: wrong answers, among those with a valid exact answer."""

import pandas as pd

from llm_figures.core.errors import UserError

# With fewer answers of either label five folds would hold less than four each.
FEWEST_OF_A_LABEL = 20


def check_labels(answers: pd.DataFrame, report: str) -> None:
    """Enough answers of either label to probe, among held-out questions too where there are any.

    answers: columns answer, valid, correct, hold_out. report: the file to look into.

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
