"""Probes on single projections, for the module map."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import Protocol


def module_probe_scores(
    projections: Sequence[tuple[int, str, Callable[[], np.ndarray]]],
    rows: np.ndarray,
    cell: Cell,
    protocol: Protocol,
    jobs: int,
) -> Iterator[dict]:
    """The AUC of a probe on each projection's output: layer, module, metric, value.

    projections: (layer, module, what returns its states [rows, d_out]), called by the process that
    fits them. rows: which rows of states are the examples of `cell`, the same for all. jobs:
    processes that fit side by side.

    The value is the mean over the folds of the protocol, as in the figure of probes; no control is
    fitted.

    Raises:
        UserError: too few right or wrong answers have the token.
    """
    if not cell.enough_answers:
        raise UserError(
            f"config: figures.module_map.probe_token: {cell.token}: only {len(cell.labels)} "
            f"answers have it, {int((cell.labels == 0).sum())} of them right; choose another token"
        )
    numbered = [(number, states) for number, (_, _, states) in enumerate(projections)]
    found = probe_layers(numbered, [rows], [cell], protocol.changed(controls=()), jobs)
    for (layer, module, _), frame in zip(projections, found, strict=True):
        folds = [_auc(fold, cell) for _, fold in frame.groupby(["repeat", "fold"])]
        yield {
            "layer": layer,
            "projection": module,
            "metric": "probe_auc",
            "value": float(np.mean(folds)) if folds else np.nan,
        }


def _auc(frame: pd.DataFrame, cell: Cell) -> float:
    at = np.searchsorted(cell.questions, frame["question_id"].to_numpy())
    return float(compute_metrics(cell.labels[at], frame["score"].to_numpy())["auc"][0])
