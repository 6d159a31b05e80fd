"""The answers of one shard whose states are extracted, with the positions of their named tokens."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.core.parquet_tensors import read_frame
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.probe.token_positions import locate_named_tokens
from llm_figures.questions.answers import check_labels


class ShardAnswers(NamedTuple):
    """Answers with a valid exact answer; every list has one entry per answer.

    prompts, answers: token ids, as arrays: lists of 100,000 prompts would take gigabytes. An answer
    goes on with the token that ended it.
    positions: {named token: position in prompt + answer, or several}. prefix: token ids with which
    the prompts of all shards begin.
    """

    question_ids: list[int]
    prompts: list[np.ndarray]
    answers: list[np.ndarray]
    positions: list[dict[str, int | range]]
    prefix: list[int]


def read_shard_answers(
    answers: str, shard: tuple[int, int], token: str | None = None, needs_labels: bool = True
) -> ShardAnswers:
    """Read one shard, (index, count), of forward/answers.parquet.

    token: the only named token that is needed; answers without it are left out. needs_labels:
    whether there must be enough answers of either label; one of several sets may be left out.

    Raises:
        UserError: too few right or wrong answers for any probe, noticed before a model is loaded.
    """
    index, count = shard
    rows = read_frame(answers)
    if needs_labels:
        check_labels(rows, "forward/answers.md")
    rows = rows[rows["valid"]]
    if rows.empty:
        return ShardAnswers([], [], [], [], [])
    # The prefix must not depend on the number of shards.
    prefix = shared_prefix(rows["prompt_ids"].tolist())
    rows = rows[rows["question_id"] % count == index]
    positions = pd.Series(locate_tokens(rows), index=rows.index, dtype=object)
    if token is not None:
        has_token = positions.map(lambda named: token in named).astype(bool)
        rows = rows[has_token]
        positions = positions[has_token].map(lambda named: {token: named[token]})
    return ShardAnswers(
        rows["question_id"].tolist(),
        rows["prompt_ids"].tolist(),
        list_sequences(rows),
        positions.tolist(),
        prefix,
    )


def list_sequences(answers: pd.DataFrame) -> list[np.ndarray]:
    """Token ids of the answer, and that which ended it, of each row of forward/answers.parquet."""
    return [
        np.append(row.answer_ids, row.stop_id) if row.stop_id >= 0 else row.answer_ids
        for row in answers.itertuples()
    ]


def locate_tokens(answers: pd.DataFrame) -> list[dict[str, int | range]]:
    """{named token: position in prompt + answer, or several} of each row of answers.parquet.

    The answers are those of `list_sequences`.
    """
    return [
        locate_named_tokens(
            len(row.prompt_ids),
            list(row.token_starts),
            list(row.token_ends),
            (row.span_start, row.span_end),
            stops=row.stop_id >= 0,
        )
        for row in answers.itertuples()
    ]
