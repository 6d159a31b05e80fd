"""Cells of the probe from the files of a run: which rows of the states are whose examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame, read_frames
from llm_figures.probe.cells import Cell, make_cells
from llm_figures.probe.protocol import Protocol
from llm_figures.questions.answers import check_labels


class ReadCells(NamedTuple):
    """answers: the valid ones. cells: one per token. rows: for each cell, the rows of the states'
    files, counted through all shards, that are its examples."""

    answers: pd.DataFrame
    cells: list[Cell]
    rows: list[np.ndarray]


def read_cells(
    answers: str | Path,
    states: Sequence[str | Path],
    tokens: Sequence[str],
    protocol: Protocol,
) -> ReadCells:
    """Read forward/answers.parquet and which rows its answers have in the files of states.

    Raises:
        UserError: a file that cannot be read; too few right or wrong answers; fewer groups than
            folds by group; states of other answers.
    """
    rows = read_frame(answers)
    check_labels(rows, "forward/answers.md")
    rows = rows[rows["valid"]]
    keys = read_frames(states, ["question_id", "token"])
    unknown = keys.loc[~keys["question_id"].isin(rows["question_id"]), "question_id"]
    if len(unknown):
        raise UserError(
            f"{states[0]}: has states of question {unknown.iloc[0]}, to which {answers} has no "
            "valid answer; they are not of one run: remove the states and run again"
        )
    return ReadCells(rows, *make_cells(keys, rows, tokens, protocol))
