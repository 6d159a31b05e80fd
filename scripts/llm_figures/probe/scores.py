"""Tidy scores from the probes' predictions: metrics, intervals and controls."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import (
    METRICS,
    compute_bootstrap_interval,
    compute_fold_intervals,
    compute_metrics,
    draw_resamples,
)
from llm_figures.probe.fitting import probe_cell
from llm_figures.probe.protocol import (
    CROSS_VALIDATIONS,
    OUTPUT_AND_GROUP,
    OUTPUT_COMBINED,
    OUTPUT_SCORES,
    PRESETS,
    VARIANT,
    Protocol,
)
from llm_figures.probe.stored_predictions import Predictions, iterate_layers

# Bootstrap resamples behind the interval of a single split.
DRAWS = 1000
# Before the name of a baseline that is not fitted, and of its metric.
RAW = "raw_"
COLUMNS = [
    "layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "gain", "gain_low",
    "gain_high", "n", "n_train", "n_test", "folds", "unconverged", "groups", "within_group",
    "spread",
]  # fmt: skip


def compute_probe_scores(
    predictions: Predictions, cells: list[Cell], answers: pd.DataFrame, protocol: Protocol
) -> pd.DataFrame:
    """Tidy scores, one row per layer × token × metric × control.

    predictions: as from `fitting.probe_cell`, of all layers. cells: as from `cells.make_cells`.
    answers: columns question_id, group, and those of `OUTPUT_SCORES` that there are, and of
    probe.p_true.variants ("p_true_NAME").

    control is "none" for the probe itself. Fitted controls are "shuffled_labels" and
    "shuffled_within_group". "embeddings" is the probe of layer 0 at the same token, "group_only" a
    probe whose only input is the question's group. The output's own confidence gives
    `OUTPUT_BASELINES` and variants of "p_true", each fitted like a probe; their rows with the
    metric "raw_auc" are not fitted: how well low confidence by itself detects a wrong answer.

    mean, ci_low, ci_high: over folds with the interval of Nadeau & Bengio, or of a single split's
    test set with a bootstrap interval; clipped to [0, 1]. gain, gain_low, gain_high (controls
    only): probe − control, paired by fold or resample. n: answers in the cell. n_train, n_test:
    averages per fold. folds: how many. unconverged: number of fits that did not converge. groups:
    number of groups that the cell's answers are in; answers without one are a group of their own.
    within_group ("shuffled_within_group" only): share of training answers whose labels are shuffled
    within their own group; those of groups too small for that are shuffled together. spread (of
    controls with several permutations of the labels): the standard deviation of mean from one to
    the other. Cells with too few answers are NaN.

    Raises:
        UserError: too few answers in every cell.
    """
    return tabulate_cells(measure_cells(predictions, cells, answers, protocol))


class MeasuredCell(NamedTuple):
    """A token's cells of all layers. results: {(layer, control): its metrics}; empty if there are
    too few answers."""

    cell: Cell
    results: dict[tuple[int, str], "Result"]


class MeasuredCells(NamedTuple):
    """layers: in ascending order. over_folds: whether values are of folds, or resampled."""

    layers: list[int]
    tokens: list[MeasuredCell]
    over_folds: bool


def measure_cells(
    predictions: Predictions, cells: list[Cell], answers: pd.DataFrame, protocol: Protocol
) -> MeasuredCells:
    """The metrics of every probe and control in every split; see `compute_probe_scores`."""
    baselines = _Baselines(answers, protocol)
    by_token = {cell.token: cell for cell in cells}
    found: dict[str, dict[tuple[int, str], Result]] = {}
    for frame in iterate_layers(predictions):
        for token, fitted in frame.groupby("token", observed=True):
            results = measure_predictions(fitted, by_token[token], protocol)
            found.setdefault(str(token), {}).update(results)
    layers = sorted({layer for results in found.values() for layer, _ in results})
    if not layers:
        counts = ", ".join(f"{cell.token} {len(cell.labels)}" for cell in cells)
        raise UserError(
            "dataset: no token has enough right and wrong answers for a score; answers by token: "
            f"{counts}; add questions, or choose other tokens"
        )
    measured = []
    for cell in cells:
        results = found.get(cell.token, {})
        if not results:
            measured.append(MeasuredCell(cell, {}))
            continue
        for control, frame in baselines.predict(cell).items():
            (result,) = measure_predictions(frame, cell, protocol).values()
            results |= {(layer, control): result for layer in layers}
        for layer in layers:
            # Layer 0 has no context: the token alone gives away what it scores.
            results[layer, "embeddings"] = results[layers[0], "none"]
        measured.append(MeasuredCell(cell, results))
    return MeasuredCells(layers, measured, protocol.split in CROSS_VALIDATIONS)


def tabulate_cells(measured: MeasuredCells) -> pd.DataFrame:
    """The tidy scores of `compute_probe_scores`."""
    rows = []
    for cell, results in measured.tokens:
        if not results:
            rows += [
                {"layer": layer, "token": cell.token, "metric": metric, "control": "none"}
                | {
                    "n": len(cell.labels),
                    "groups": cell.group_count,
                    "n_train": 0,
                    "n_test": 0,
                    "folds": 0,
                    "unconverged": 0,
                }
                for layer in measured.layers
                for metric in METRICS
            ]
            continue
        within = cell.compute_within_group_share()
        for (layer, control), result in sorted(results.items(), key=lambda item: item[0]):
            probe = None if control == "none" else results[layer, "none"]
            place = {"layer": layer, "token": cell.token}
            place |= {"n": len(cell.labels), "groups": cell.group_count}
            if control == "shuffled_within_group":
                place["within_group"] = within
            rows += [place | row for row in tabulate_control(control, result, probe)]
    return pd.DataFrame(rows, columns=COLUMNS)


def tabulate_control(control: str, result: "Result", probe: "Result | None") -> Iterator[dict]:
    """One row per metric. probe: the result that the control is compared with."""
    for row in result.rows(probe):
        if not control.startswith(RAW):
            yield {"control": control} | row
        elif row["metric"] == "auc":  # confidence has no threshold of its own
            yield row | {"control": control.removeprefix(RAW), "metric": f"{RAW}auc"}


@dataclass(frozen=True)
class Result:
    """Metrics of one probe.

    permuted: [permutations, metrics, folds], or [permutations, metrics, 1 + draws] of a single
    split; one permutation if labels are not shuffled. splits: (repeat, fold) of each fold, in
    order. inner_aucs: [folds], by which nested selection compares cells. unconverged_fits: [folds],
    and their sum.
    """

    permuted: np.ndarray
    splits: list[tuple[int, int]]
    inner_aucs: np.ndarray
    over_folds: bool
    n_train: int
    n_test: int
    folds: int
    unconverged: int
    unconverged_fits: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """[metrics, folds], or [metrics, 1 + draws]: the mean over permutations."""
        return self.permuted.mean(axis=0)

    def rows(self, probe: "Result | None") -> Iterator[dict]:
        """One row per metric. probe: the result that a control is compared with."""
        scores = np.transpose(self._intervals(self.values))
        gains = np.full_like(scores, np.nan)
        if probe is not None:
            gains = np.transpose(self._intervals(probe.values - self.values))
        means = self.permuted.mean(axis=2) if self.over_folds else self.permuted[..., 0]
        several = len(means) > 1
        spreads = means.std(axis=0, ddof=1) if several else np.full(len(METRICS), np.nan)
        for metric, (mean, low, high), gain, spread in zip(
            METRICS, scores.tolist(), gains.tolist(), spreads.tolist(), strict=True
        ):
            yield {
                "metric": metric,
                "mean": mean,
                "ci_low": max(low, 0.0),
                "ci_high": min(high, 1.0),
                **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
                "n_train": self.n_train,
                "n_test": self.n_test,
                "folds": self.folds,
                "unconverged": self.unconverged,
                "spread": spread,
            }

    def _intervals(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.over_folds:
            return compute_fold_intervals(values, self.n_train, self.n_test)
        return tuple(np.transpose([compute_bootstrap_interval(row) for row in values]))


def measure_predictions(
    predictions: pd.DataFrame, cell: Cell, protocol: Protocol
) -> dict[tuple[int, str], Result]:
    """{(layer, control): metrics}, on the same folds or resamples for every control.

    predictions: as from `fitting.probe_cell`, of one permutation of the labels if they have no such
    column.
    """
    if predictions.empty:
        return {}
    over_folds = protocol.split in CROSS_VALIDATIONS
    columns = {
        name: predictions[name].to_numpy()
        for name in ("layer", "repeat", "fold", "n_train", "converged", "inner_auc", "score")
    }
    names, controls = np.unique(predictions["control"].astype(str), return_inverse=True)
    examples = np.searchsorted(cell.questions, predictions["question_id"].to_numpy())
    permutations = predictions.get("permutation", np.zeros(len(predictions), np.int16))
    keys = np.stack([columns["layer"], controls, permutations, columns["repeat"], columns["fold"]])
    order = np.lexsort(keys[::-1])
    keys = keys[:, order]
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    resamples: dict[bytes, np.ndarray] = {}  # the same for all fits of a split
    fits: dict[tuple[int, str], dict[int, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[start:stop]
        layer, control, permutation, *_ = keys[:, start].tolist()
        weights = None
        if not over_folds:
            tested = cell.split_groups[examples[rows]]
            key = tested.tobytes()
            if key not in resamples:
                resamples[key] = draw_resamples(tested, DRAWS, protocol.seed)
            weights = resamples[key]
        metrics = compute_metrics(cell.labels[examples[rows]], columns["score"][rows], weights)
        values = np.stack([metrics[name] for name in METRICS])
        of_control = fits.setdefault((layer, str(names[control])), {})
        of_control.setdefault(permutation, []).append((rows, values))
    results = {}
    for key, of_permutation in fits.items():
        parts = next(iter(of_permutation.values()))
        first = np.array([rows[0] for rows, _ in parts])
        unconverged = np.sum(
            [
                [not columns["converged"][rows[0]] for rows, _ in same]
                for same in of_permutation.values()
            ],
            axis=0,
        )
        results[key] = Result(
            permuted=np.stack(
                [
                    np.concatenate([values for _, values in same], axis=1)
                    for same in of_permutation.values()
                ]
            ),
            splits=list(
                zip(columns["repeat"][first].tolist(), columns["fold"][first].tolist(), strict=True)
            ),
            inner_aucs=columns["inner_auc"][first],
            over_folds=over_folds,
            n_train=round(columns["n_train"][first].mean()),
            n_test=round(sum(len(rows) for rows, _ in parts) / len(parts)),
            folds=len(parts),
            unconverged=int(unconverged.sum()),
            unconverged_fits=unconverged,
        )
    return results


class _Baselines:
    """Baselines without hidden states; cells of the same answers share them."""

    def __init__(self, answers: pd.DataFrame, protocol: Protocol):
        self._answers = answers.set_index("question_id")
        # Standardised and converged under every protocol: a control must be as strong as it can be.
        strict = PRESETS["strict"]
        self._protocol = protocol.changed(
            standardise=strict.standardise,
            controls=(),
            kind=strict.kind,
            solver=strict.solver,
            C=strict.C,
            class_weight=protocol.class_weight or strict.class_weight,
        )
        self._known: dict[bytes, dict[str, pd.DataFrame]] = {}

    def predict(self, cell: Cell) -> dict[str, pd.DataFrame]:
        """{control: predictions, as from `probe_cell`}."""
        key = cell.questions.tobytes()
        if key not in self._known:
            features = self._features(cell)
            found = {
                name: probe_cell(values, cell, 0, self._protocol)
                for name, values in features.items()
            }
            for name in _list_outputs(found):
                place = np.searchsorted(cell.questions, found[name]["question_id"].to_numpy())
                found[f"{RAW}{name}"] = found[name].assign(score=-features[name][place, 0])
            self._known[key] = found
        return self._known[key]

    def _features(self, cell: Cell) -> dict[str, np.ndarray]:
        """{control: [examples, features]}."""
        answers = self._answers.loc[cell.questions]
        groups = answers["group"].fillna("")
        features = {}
        if groups.nunique() > 1:
            features["group_only"] = pd.get_dummies(groups).to_numpy(np.float32)
        outputs = []
        for name in _list_outputs(answers):
            # An answer too long to be judged gets the median of the others.
            values = answers[name].fillna(answers[name].median())
            if values.notna().all():
                features[name] = values.to_numpy(np.float32)[:, None]
                outputs.append(features[name])
        if outputs:
            features[OUTPUT_COMBINED] = np.hstack(outputs)
            if "group_only" in features:
                features[OUTPUT_AND_GROUP] = np.hstack([*outputs, features["group_only"]])
        return features


def _list_outputs(names: Iterable[str]) -> list[str]:
    """Those that are confidence scores of the output, in the order of `OUTPUT_SCORES`."""
    names = list(names)
    variants = [name for name in names if name.startswith(VARIANT)]
    return [*(name for name in OUTPUT_SCORES if name in names), *variants]
