"""Which sampled answers have a state of their own, and the schema of these states."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from llm_figures.core.errors import UserError
from llm_figures.probe.schema import make_hidden_states_schema
from llm_figures.probe.token_positions import locate_named_tokens


class SampleStates(NamedTuple):
    """Sampled answers up to a named token; the state there depends on nothing after it.

    question_ids, samples: of each distinct beginning, the question and the first sample that has
    it. answers: its token ids, up to and with the named token. row_of_sample: [samples], the place
    of every sample's beginning in these lists, −1 for one that is not valid or has no such token.
    """

    question_ids: list[int]
    samples: list[int]
    answers: list[list[int]]
    row_of_sample: np.ndarray


def find_sample_states(samples: pd.DataFrame, token: str) -> SampleStates:
    """The states that samples need.

    samples: rows of forward/samples.parquet. token: a named token of the answer.
    """
    place_of: dict[tuple[int, tuple[int, ...]], int] = {}
    numbers: list[int] = []
    rows = np.full(len(samples), -1)
    for at, sample in enumerate(samples.itertuples()):
        if not sample.valid:
            continue
        span = (sample.span_start, sample.span_end)
        # counted from the beginning of the answer
        position = locate_named_tokens(
            0, list(sample.token_starts), list(sample.token_ends), span
        ).get(token)
        if position is None:
            continue
        key = (int(sample.question_id), tuple(sample.answer_ids[: position + 1].tolist()))
        if key not in place_of:
            place_of[key] = len(place_of)
            numbers.append(int(sample.sample))
        rows[at] = place_of[key]
    return SampleStates(
        [question for question, _ in place_of],
        numbers,
        [list(ids) for _, ids in place_of],
        rows,
    )


def select_samples(samples: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The samples of questions with a valid greedy answer, among which is chosen.

    samples, answers: rows of forward/samples.parquet and forward/answers.parquet.
    """
    valid = answers.loc[answers["valid"], "question_id"]
    return samples[samples["question_id"].isin(valid)].reset_index(drop=True)


def select_shard(states: SampleStates, shard: tuple[int, int]) -> list[int]:
    """The places of the states of one shard, (index, count): those of its questions."""
    index, count = shard
    return [at for at, key in enumerate(states.question_ids) if key % count == index]


def make_sample_states_schema(
    layers: int,
    hidden_size: int,
    heads: Mapping[int, tuple[int, int]] | None = None,
    dtype: str = "float32",
) -> pa.Schema:
    """`make_hidden_states_schema` with the number of the sample, for forward/sample_states."""
    schema = make_hidden_states_schema(layers, hidden_size, heads, dtype)
    return schema.insert(1, pa.field("sample", pa.int32()))


def order_states(states: SampleStates, keys: pd.DataFrame) -> np.ndarray:
    """[states]: the row of each state in the files.

    keys: the columns question_id and sample of the files.

    Raises:
        UserError: a state that the files lack.
    """
    row_of = {
        key: row for row, key in enumerate(zip(keys["question_id"], keys["sample"], strict=True))
    }
    wanted = list(zip(states.question_ids, states.samples, strict=True))
    if missing := [key for key in wanted if key not in row_of]:
        raise UserError(
            f"forward/sample_states has no state of sample {missing[0][1]} of question "
            f"{missing[0][0]}; they are not of one run: remove the states and run again"
        )
    return np.array([row_of[key] for key in wanted], int)
