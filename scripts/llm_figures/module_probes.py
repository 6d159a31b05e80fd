"""Probes on single projections, for the module map."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from llm_figures.errors import UserError
from llm_figures.metrics import metrics
from llm_figures.probes import Cell, probe_layers


def module_probe_scores(
    states: Iterable[tuple[int, str, np.ndarray]], cell: Cell, protocol: Mapping, jobs: int
) -> Iterator[dict]:
    """The AUC of a probe on each projection's output: layer, module, metric, value.

    states: (layer, module, [examples, d_out]), taken as they are needed. cell: the answers, the
    same for all. jobs: processes that fit side by side.

    The value is the mean over the folds of the protocol, as in the figure of probes; no control is
    fitted.

    Raises:
        UserError: too few right or wrong answers have the token.
    """
    if not cell.enough:
        raise UserError(
            f"config: figures.module_map.probe_token: {cell.token}: only {len(cell.labels)} "
            f"answers have it, {int((cell.labels == 0).sum())} of them right; choose another token"
        )
    places: list[tuple[int, str]] = []

    def numbered() -> Iterator[tuple[int, np.ndarray]]:
        for number, (layer, module, values) in enumerate(states):
            places.append((layer, module))
            yield number, values

    every = [np.arange(len(cell.labels))]
    found = probe_layers(numbered(), every, [cell], dict(protocol) | {"controls": []}, jobs)
    for number, frames in enumerate(found):
        layer, module = places[number]
        yield {
            "layer": layer,
            "module": module,
            "metric": "probe_auc",
            "value": float(np.mean([_auc(frame, cell) for frame in frames])) if frames else np.nan,
        }


def _auc(frame: pd.DataFrame, cell: Cell) -> float:
    at = np.searchsorted(cell.questions, frame["question_id"].to_numpy())
    return float(metrics(cell.labels[at], frame["score"].to_numpy())["auc"][0])
