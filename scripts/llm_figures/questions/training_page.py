"""What a model that was taught some facts answers, beside what it answered before."""

from collections.abc import Iterator

import pandas as pd

from llm_figures.core.markdown import table_row

HELD_OUT, TRAINED, OTHERS = "held out", "trained", "of other groups, never trained"


def training_table(taught: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Answers right before and after, by whether the question was trained.

    taught: question, trained, loss_before, loss_after. before, after: forward/answers.parquet of
    the base and of the trained model; questions that both were asked count.

    Returns kind, facts, loss_before and loss_after (nats; missing where none was measured), asked,
    right_before, right_after, became_right, became_wrong.
    """
    asked = before[["question", "correct"]].merge(
        after[["question", "correct"]], on="question", suffixes=("_before", "_after")
    )
    asked = asked.merge(taught[["question", "trained"]], on="question", how="left")
    kinds = {TRAINED: True, HELD_OUT: False}
    rows = []
    for kind in (TRAINED, HELD_OUT, OTHERS):
        facts = taught[taught["trained"] == kinds[kind]] if kind in kinds else taught[:0]
        own = asked[asked["trained"].isna()]
        if kind in kinds:
            own = asked[asked["trained"].eq(kinds[kind])]
        was = own["correct_before"].astype(bool)
        became = own["correct_after"].astype(bool)
        rows.append(
            {
                "kind": kind,
                "facts": len(facts),
                "loss_before": facts["loss_before"].mean(),
                "loss_after": facts["loss_after"].mean(),
                "asked": len(own),
                "right_before": int(was.sum()),
                "right_after": int(became.sum()),
                "became_right": int((~was & became).sum()),
                "became_wrong": int((was & ~became).sum()),
            }
        )
    return pd.DataFrame(rows)


def training_page(table: pd.DataFrame, model: str, base: str) -> str:
    """The table (see `training_table`) as Markdown."""
    return "\n".join([*_lines(table, model, base), ""])


def _lines(table: pd.DataFrame, model: str, base: str) -> Iterator[str]:
    yield f"# {model}: {base}, taught some facts"
    yield ""
    yield (
        "Loss: nats, mean over the right answer's tokens, then over the facts. Right: of the "
        "questions that both models were asked."
    )
    yield ""
    heads = ("questions", "loss before", "after", "asked", "right before", "after")
    yield table_row([*heads, "became right", "became wrong"])
    yield "|---" * (len(heads) + 2) + "|"
    for row in table.itertuples():
        losses = [
            "" if pd.isna(loss) else f"{loss:.3f}" for loss in (row.loss_before, row.loss_after)
        ]
        right = [_share(count, row.asked) for count in (row.right_before, row.right_after)]
        cells = [row.kind, *losses, row.asked, *right, row.became_right, row.became_wrong]
        yield table_row(cells)


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.0f}%)" if of else "0"
