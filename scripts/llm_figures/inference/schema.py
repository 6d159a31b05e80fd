"""Parquet schema of forward/generations: answers, generated or brought along."""

from collections.abc import Sequence

import pyarrow as pa

from llm_figures.inference.generation import NO_STOP, Generation

SCHEMA = pa.schema(
    [
        ("question_id", pa.int64()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("answer_ids", pa.list_(pa.int64())),
        # The token after these that ended the answer, else -1.
        ("stop_id", pa.int64()),
        ("answer", pa.string()),
        # Characters [start, end) of the answer that each token covers.
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
        ("token_log_probabilities", pa.list_(pa.float32())),
        # Whether the limit of new tokens ended the answer.
        ("cut", pa.bool_()),
        # Why there are no tokens of an answer, else "".
        ("problem", pa.string()),
    ]
)


def answer_columns(question_ids: Sequence[int], answers: Sequence[Generation]) -> dict[str, list]:
    """Rows of the file for answers; question_ids: of each."""
    return {
        "question_id": list(question_ids),
        "prompt_ids": [answer.prompt_ids for answer in answers],
        "answer_ids": [answer.answer_ids for answer in answers],
        "stop_id": [answer.stop_id for answer in answers],
        "answer": [answer.text for answer in answers],
        "token_starts": [answer.starts for answer in answers],
        "token_ends": [answer.ends for answer in answers],
        "token_log_probabilities": [answer.log_probabilities for answer in answers],
        "cut": [answer.cut for answer in answers],
        "problem": [""] * len(answers),
    }


def problem_columns(
    question_id: int, prompt_ids: Sequence[int], problem: str, answer: str = ""
) -> dict[str, list]:
    """The row of a question without tokens of an answer; answer: the text, if it has one."""
    return {
        "question_id": [question_id],
        "prompt_ids": [list(prompt_ids)],
        "answer_ids": [[]],
        "stop_id": [NO_STOP],
        "answer": [answer],
        "token_starts": [[]],
        "token_ends": [[]],
        "token_log_probabilities": [[]],
        "cut": [False],
        "problem": [problem],
    }
