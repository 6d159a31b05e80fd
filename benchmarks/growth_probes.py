"""Probes on made-up states of one layer at one number of questions, read from a file of states.

Like the job of the pipeline, the process holds no torch.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from growth import STATES
from measuring import measured

from llm_figures.core.parquet_tensors import tensor_file, write_frame
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.schema import layer_column, make_hidden_states_schema
from llm_figures.probe.stored_states import StoredStates

SEED = 0
TOKENS = ("last_q", "exact_answer_last")
# How many directions span the states, and the noise added to the states and to the labels.
DIRECTIONS, NOISE, LABEL_NOISE = 64, 0.3, 1.5
ROWS = 1000  # questions that are made at a time
WARM_UP = 100  # questions


def probes(task: dict) -> None:
    """As scripts/score_probes.py fits them in one process, five folds and two controls."""
    paths = {}
    for count in (WARM_UP, task["questions"]):
        folder = Path(task["folder"], f"{count}")
        folder.mkdir(parents=True, exist_ok=True)
        paths[count] = write_states(folder, count, task["features"])

    def work(counts: list[int]) -> None:
        for count in counts:
            answers, states = paths[count]
            _, cells, rows = read_cells(answers, [states], TOKENS, PRESETS["strict"])
            load = partial(StoredStates, [states], layer_column(0))
            for frame in probe_layers([(0, load)], rows, cells, PRESETS["strict"], jobs=1):
                if not frame["converged"].all():
                    raise RuntimeError(f"a fit to {count} questions did not converge")

    measured(task, work, [task["questions"]], [WARM_UP], task["questions"])


def write_states(folder: Path, count: int, features: int) -> tuple[Path, Path]:
    """Write answers and their states piece by piece. One direction predicts the label, with noise.

    Features are of unlike size and offset, as a model's are.
    """
    random = np.random.default_rng(SEED)
    label_direction = random.standard_normal(DIRECTIONS)
    mixing = random.standard_normal((len(TOKENS), DIRECTIONS, features), dtype=np.float32)
    size = random.lognormal(0, 1, features).astype(np.float32)
    offset = 10 * random.standard_normal(features).astype(np.float32)
    wrong = []
    states = folder / STATES
    with tensor_file(states, make_hidden_states_schema(0, features)) as file:
        for start in range(0, count, ROWS):
            ids = np.arange(start, min(start + ROWS, count))
            meaning = random.standard_normal((len(ids), DIRECTIONS), dtype=np.float32)
            label_noise = LABEL_NOISE * np.sqrt(DIRECTIONS) * random.standard_normal(len(ids))
            wrong.append(meaning @ label_direction + label_noise > 0)
            for token, own in zip(TOKENS, mixing, strict=True):
                made = meaning @ own
                made += NOISE * random.standard_normal(made.shape, dtype=np.float32)
                keys = {"question_id": ids, "token": [token] * len(ids), "position": ids}
                file.write(keys | {layer_column(0): made * size + offset})
    ids = np.arange(count)
    frame = pd.DataFrame(
        {
            "question_id": ids,
            "correct": ~np.concatenate(wrong),
            "valid": True,
            "hold_out": False,
            "split_group": ids,
            "group": "",
            "answer": "",
        }
    )
    answers = folder / "answers.parquet"
    write_frame(frame, answers)
    return answers, states
