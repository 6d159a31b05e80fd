"""Compare a fine-tuned model's answers with those of its base, for trained and other facts."""

import pandas as pd

from llm_figures.core.markdown import table_row

TRAINED, HELD_OUT, OTHERS = "trained", "held out", "other groups, not trained"
HEADER = (
    "facts",
    "loss before",
    "loss after",
    "questions",
    "right before",
    "right after",
    "became right",
    "became wrong",
)


def tabulate_training(
    facts: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame
) -> pd.DataFrame:
    """Count right answers before and after fine-tuning, by whether the question was trained.

    facts: question, trained, loss_before, loss_after.
    before, after: question and correct, from forward/answers.parquet of the base and of the
        fine-tuned model; only questions in both count.

    Returns kind, facts, loss_before and loss_after (mean, nats; missing where none was measured),
    questions, right_before, right_after, became_right, became_wrong.
    """
    answers = before[["question", "correct"]].merge(
        after[["question", "correct"]], on="question", suffixes=("_before", "_after")
    )
    answers = answers.merge(facts[["question", "trained"]], on="question", how="left")
    # other groups: in none of the facts
    kinds = {True: TRAINED, False: HELD_OUT}
    answers["kind"] = answers["trained"].map(kinds).fillna(OTHERS)
    kind_of_fact = facts["trained"].map(kinds)
    rows = []
    for kind in (TRAINED, HELD_OUT, OTHERS):
        own = answers[answers["kind"] == kind]
        own_facts = facts[kind_of_fact == kind]
        was, became = (own[f"correct_{when}"].astype(bool) for when in ("before", "after"))
        rows.append(
            {
                "kind": kind,
                "facts": len(own_facts),
                "loss_before": own_facts["loss_before"].mean(),
                "loss_after": own_facts["loss_after"].mean(),
                "questions": len(own),
                "right_before": int(was.sum()),
                "right_after": int(became.sum()),
                "became_right": int((~was & became).sum()),
                "became_wrong": int((was & ~became).sum()),
            }
        )
    return pd.DataFrame(rows)


def render_training_page(table: pd.DataFrame, model: str, base: str) -> str:
    """The table of `tabulate_training` as Markdown."""
    lines = [
        f"# {model}: {base} fine-tuned on facts",
        "",
        "Loss: mean over the tokens of the right answer, then over the facts, in nats. Right: "
        "right answers to the questions that both models answered.",
        "",
        table_row(HEADER),
        "|---" * len(HEADER) + "|",
    ]
    for row in table.itertuples():
        losses = [
            "" if pd.isna(loss) else f"{loss:.3f}" for loss in (row.loss_before, row.loss_after)
        ]
        right = [_share(count, row.questions) for count in (row.right_before, row.right_after)]
        cells = [row.kind, *losses, row.questions, *right, row.became_right, row.became_wrong]
        lines.append(table_row(cells))
    return "\n".join([*lines, ""])


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f}%)" if total else "0"
