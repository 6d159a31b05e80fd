"""The answers of one shard that states are extracted of, and where their named tokens are."""

from typing import NamedTuple

import pandas as pd

from llm_figures.core.parquet_tensors import read_frame
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.probe.token_positions import named_positions
from llm_figures.questions.answers import check_labels


class Probed(NamedTuple):
    """Answers of a shard with a valid exact answer; the lists have one entry each.

    prefix: tokens that the prompts of all shards share.
    """

    question_ids: list[int]
    prompts: list[list[int]]
    answers: list[list[int]]
    positions: list[dict[str, int]]
    prefix: list[int]


def probed_answers(answers: str, shard: tuple[int, int], token: str | None = None) -> Probed:
    """Read forward/answers.parquet for one shard, (index, count).

    token: the one named token that is wanted; answers without it are left out.

    Raises:
        UserError: too few right or wrong answers for any probe; said before a model is loaded.
    """
    index, count = shard
    rows = read_frame(answers)
    check_labels(rows, "forward/answers.md")
    rows = rows[rows["valid"]]
    # of all shards: what is computed once must not depend on their number
    prefix = shared_prefix(rows["prompt_ids"].map(list).tolist())
    rows = rows[rows["question_id"] % count == index]
    positions = pd.Series(positions_of(rows), index=rows.index, dtype=object)
    if token is not None:
        has = positions.map(lambda named: token in named).astype(bool)
        rows = rows[has]
        positions = positions[has].map(lambda named: {token: named[token]})
    return Probed(
        rows["question_id"].tolist(),
        [list(ids) for ids in rows["prompt_ids"]],
        [list(ids) for ids in rows["answer_ids"]],
        positions.tolist(),
        prefix,
    )


def positions_of(answers: pd.DataFrame) -> list[dict[str, int]]:
    """{named token: position in prompt + answer} of each row of forward/answers.parquet."""
    return [
        named_positions(
            len(row.prompt_ids),
            list(row.token_starts),
            list(row.token_ends),
            (row.span_start, row.span_end),
        )
        for row in answers.itertuples()
    ]
