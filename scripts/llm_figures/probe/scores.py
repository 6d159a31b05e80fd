"""From the probes' scores of single answers to tidy scores: metrics, intervals, controls."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import (
    METRICS,
    bootstrap_interval,
    fold_interval,
    metrics,
    resamples,
)
from llm_figures.probe.fitting import probe_cell
from llm_figures.probe.protocol import OUTPUT_BASELINES, PRESETS

# Resamples behind the interval of a single split.
DRAWS = 1000
COLUMNS = [
    "layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "gain", "gain_low",
    "gain_high", "n", "n_train", "n_test", "folds", "unconverged",
]  # fmt: skip


def probe_scores(
    predictions: pd.DataFrame, cells: list[Cell], answers: pd.DataFrame, protocol: Mapping
) -> pd.DataFrame:
    """Tidy scores, one row per layer × token × metric × control.

    predictions: as from `fitting.probe_cell`, of all layers. cells: as from `cells.make_cells`.
    answers: columns question_id, group, and those of `OUTPUT_BASELINES` that there are.

    control is "none" for the probe itself, else what stands beside it: "shuffled_labels" and
    "shuffled_within_group" as fitted; "embeddings", the probe of layer 0 at the same token;
    "group_only", a probe that sees nothing but the question's group; and the output's own
    confidence, "answer_log_probability", "exact_answer_log_probability" (means over tokens) and
    "p_true".

    mean, ci_low, ci_high: over folds with the interval of Nadeau & Bengio, or for a single split
    the test examples' value with a bootstrap interval; within [0, 1]. gain, gain_low, gain_high (of
    controls): the probe's score minus the control's, paired by fold or resample. n: answers in the
    cell; n_train, n_test: on average per fold; folds: how many; unconverged: fits of this probe
    that did not converge. Cells with too few answers are NaN.

    Raises:
        UserError: too few answers in every cell.
    """
    layers = sorted(predictions["layer"].unique())
    if not layers:
        counts = ", ".join(f"{cell.token} {len(cell.labels)}" for cell in cells)
        raise UserError(
            "dataset: no token has enough right and wrong answers for a score; answers by token: "
            f"{counts}; add questions, or choose other tokens"
        )
    groups = dict(tuple(predictions.groupby("token", observed=True)))
    baselines = _Baselines(answers, protocol)
    rows = []
    for cell in cells:
        fitted = groups.get(cell.token)
        if fitted is None:
            rows += [
                {"layer": layer, "token": cell.token, "metric": metric, "control": "none"}
                | {"n": len(cell.labels), "n_train": 0, "n_test": 0, "folds": 0, "unconverged": 0}
                for layer in layers
                for metric in METRICS
            ]
            continue
        measure = _Measure(cell, protocol)
        found = {
            key: measure(frame)
            for key, frame in fitted.groupby(["layer", "control"], observed=True)
        }
        for control, frame in baselines.of(cell).items():
            values = measure(frame)
            found |= {(layer, control): values for layer in layers}
        for layer in layers:
            # Layer 0 knows no context: what it scores, the token alone gives away.
            found[layer, "embeddings"] = found[layers[0], "none"]
        for (layer, control), result in sorted(found.items()):
            rows += measure.rows(layer, control, result, found[layer, "none"])
    return pd.DataFrame(rows, columns=COLUMNS)


class _Measure:
    """Metrics of one cell's probes, on the same folds or resamples for all."""

    def __init__(self, cell: Cell, protocol: Mapping):
        self._cell = cell
        self._folds = protocol["split"] == "folds"
        self._seed = protocol["seed"]

    def __call__(self, frame: pd.DataFrame) -> dict:
        """{metric: [folds], or [1 + draws] of a single split}, and counts."""
        values = []
        for _, fold in frame.groupby(["repeat", "fold"]):
            at = np.searchsorted(self._cell.questions, fold["question_id"].to_numpy())
            labels = self._cell.labels[at]
            weights = None
            if not self._folds:
                weights = resamples(self._cell.twins[at], DRAWS, self._seed)
            values.append(metrics(labels, fold["score"].to_numpy(), weights))
        parts = frame.drop_duplicates(["repeat", "fold"])
        return {
            "values": {
                metric: np.concatenate([value[metric] for value in values]) for metric in METRICS
            },
            "n_train": round(parts["n_train"].mean()),
            "n_test": round(len(frame) / len(parts)),
            "folds": len(parts),
            "unconverged": int((~parts["converged"]).sum()),
        }

    def rows(self, layer: int, control: str, result: dict, probe: dict):
        """One row per metric; `probe` is the result of the cell's own probe."""
        for metric in METRICS:
            own = result["values"][metric]
            mean, low, high = self._interval(own, result)
            gain = (np.nan,) * 3
            if control != "none":
                gain = self._interval(probe["values"][metric] - own, result)
            yield {
                "layer": layer,
                "token": self._cell.token,
                "metric": metric,
                "mean": mean,
                "ci_low": max(low, 0.0),
                "ci_high": min(high, 1.0),
                "control": control,
                "gain": gain[0],
                "gain_low": gain[1],
                "gain_high": gain[2],
                "n": len(self._cell.labels),
                **{key: result[key] for key in ("n_train", "n_test", "folds", "unconverged")},
            }

    def _interval(self, values: np.ndarray, result: dict) -> tuple[float, float, float]:
        if self._folds:
            return fold_interval(values, result["n_train"], result["n_test"])
        return bootstrap_interval(values)


class _Baselines:
    """Baselines of a cell's answers; cells that rest on the same answers share them."""

    def __init__(self, answers: pd.DataFrame, protocol: Mapping):
        self._answers = answers.set_index("question_id")
        # Converged and standardised whatever the protocol: a control is to be as strong as it can.
        self._protocol = {
            **protocol,
            **{key: PRESETS["strict"][key] for key in ("standardise", "solver", "C")},
            "controls": [],
        }
        self._found: dict[bytes, dict[str, pd.DataFrame]] = {}

    def of(self, cell: Cell) -> dict[str, pd.DataFrame]:
        """{control: its scores, as from `probe_cell`}"""
        key = cell.questions.tobytes()
        if key not in self._found:
            self._found[key] = {
                name: probe_cell(values, cell, 0, self._protocol)
                for name, values in self._features(cell).items()
            }
        return self._found[key]

    def _features(self, cell: Cell) -> dict[str, np.ndarray]:
        """{control: [examples, features]}"""
        answers = self._answers.loc[cell.questions]
        found = {}
        if answers["group"].fillna("").nunique() > 1:
            found["group_only"] = pd.get_dummies(answers["group"].fillna("")).to_numpy(np.float32)
        for name in OUTPUT_BASELINES:
            if name in answers:
                # An answer too long to be asked about tells nothing: the middle of the others.
                values = answers[name].fillna(answers[name].median())
                if values.notna().all():
                    found[name] = values.to_numpy(np.float32)[:, None]
        return found
