"""Probes on the outputs of single projections."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.stored_states import LoadStates


def score_projections(
    projections: Sequence[tuple[int, str, LoadStates]],
    rows: np.ndarray,
    cell: Cell,
    protocol: Protocol,
    jobs: int,
) -> Iterator[dict]:
    """Fit a probe on each projection; yield rows layer, projection, metric, value.

    projections: (layer, projection, function that returns its states [rows, d_out]) of each. The
        function is called in the process that fits the probe.
    rows: the rows of states that are the examples of `cell`, the same for all.
    jobs: number of parallel processes.

    The value is the AUC, averaged over the folds of the protocol. No control is fitted.

    Raises:
        UserError: too few right or wrong answers have the token.
    """
    if not cell.enough_answers:
        raise UserError(
            f"config: figures.module_map.probe_token: {cell.token}: only {len(cell.labels)} "
            f"answers have it, {int((cell.labels == 0).sum())} of them right; choose another token"
        )
    numbered = [(number, states) for number, (_, _, states) in enumerate(projections)]
    frames = probe_layers(
        numbered, [rows], [cell], protocol.changed(controls=()), jobs, select=False
    )
    for (layer, projection, _), frame in zip(projections, frames, strict=True):
        folds = [_auc(fold, cell) for _, fold in frame.groupby(["repeat", "fold"])]
        yield {
            "layer": layer,
            "projection": projection,
            "metric": "probe_auc",
            "value": float(np.mean(folds)) if folds else np.nan,
        }


def _auc(frame: pd.DataFrame, cell: Cell) -> float:
    at = np.searchsorted(cell.questions, frame["question_id"].to_numpy())
    return float(compute_metrics(cell.labels[at], frame["score"].to_numpy())["auc"][0])
