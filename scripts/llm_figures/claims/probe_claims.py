"""Evaluate claims about the probe figure, with bootstrap resamples of the questions."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import Spread, assess, attempt, build_claims_table
from llm_figures.claims.reference_tables import measure_on_tables
from llm_figures.claims.regions import Table, build_table, list_controls, measure_table
from llm_figures.probe.best_cell import list_nested_scores
from llm_figures.probe.classification_metrics import compute_auc, draw_resamples
from llm_figures.probe.nested import select_nested
from llm_figures.probe.stored_predictions import Predictions, iterate_layers

DRAWS = 500
NESTED = "nested"  # the control of `build_score_tables`


def check_probe_claims(
    model: str,
    claims: Sequence[FigureClaim],
    scores: pd.DataFrame,
    predictions: Predictions,
    answers: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """Rows of claims.parquet for the probe figure; its values are AUCs.

    scores: tidy scores. predictions: the probes' scores of single answers, as from
    `fitting.probe_cell`. answers: question_id, split_group, correct of the valid answers.

    The spread is that over `DRAWS` bootstrap resamples of the test questions, the same for all
    cells, so that a comparison of two cells is paired. The probes are not fitted again: it is the
    uncertainty of the test set, not of the training.

    The control "nested" is the probe where the layer of each token is chosen in every split on the
    training answers alone (`probe.nested`): what a claim about best layers reads.
    """
    tables = build_score_tables(scores)
    controls = {control for claim in claims for control in list_controls(claim)}
    drawn = bootstrap_tables(predictions, answers, tables["none"], seed, controls=controls)
    if NESTED in controls and NESTED in tables:
        chosen = select_nested(predictions, tables["none"].columns, of_token=True)
        chosen = chosen.assign(control=NESTED, layer=0)
        of_nested = bootstrap_tables(chosen, answers, tables[NESTED], seed)
        drawn = [{**one, **other} for one, other in zip(drawn, of_nested, strict=True)]
    what = f"95% of {DRAWS} bootstrap resamples of the questions"

    def row(claim: FigureClaim) -> dict:
        def spread() -> Spread | None:
            if any(control not in drawn[0] for control in list_controls(claim)):
                return None
            values = [attempt(claim, measure_table, draw) for draw in drawn]
            return Spread(values, what, percentiles=True)

        return assess(
            model,
            claim,
            lambda: measure_table(claim, tables),
            spread,
            references=lambda: references[claim.name],
        )

    references = measure_on_tables(claims, tables, chance=0.5, seed=seed)
    return build_claims_table([row(claim) for claim in claims])


def build_score_tables(scores: pd.DataFrame) -> dict[str, Table]:
    """{control: table of AUCs with their intervals}; "none" is the probe itself.

    "nested" has one row, the scores where each token's layer is chosen on the training answers.
    """
    shown = scores[scores["metric"] == "auc"].rename(columns={"mean": "value"})
    tables = {
        str(control): build_table(part, "token", "value", intervals=True)
        for control, part in shown.groupby("control", sort=False)
    }
    nested = list_nested_scores(scores, "auc")
    if len(nested):
        tokens = list(dict.fromkeys(shown["token"].astype(str)))
        low, mean, high = (
            nested[name].reindex(tokens).to_numpy(float)[None]
            for name in ("ci_low", "mean", "ci_high")
        )
        tables[NESTED] = Table(tokens, [0], mean, low, high)
    return tables


def bootstrap_tables(
    predictions: Predictions,
    answers: pd.DataFrame,
    like: Table,
    seed: int,
    draws: int = DRAWS,
    controls: Collection[str] | None = None,
) -> list[dict[str, Table]]:
    """For every resample {control: table of AUCs}, of the controls with predictions of their own.

    like: the table whose layers and columns they have. controls: some of them. A cell's AUC is the
    mean over folds of the fold's AUC, as in the scores; a fold without one of the classes in a
    resample does not count.
    """
    answers = answers.sort_values("question_id")
    questions = answers["question_id"].to_numpy()
    wrong = (~answers["correct"].astype(bool)).to_numpy().astype(int)
    weights = draw_resamples(answers["split_group"].to_numpy(), draws, seed)[1:].astype(np.float32)
    shape = (draws, len(like.layers), len(like.columns))
    layers = {layer: index for index, layer in enumerate(like.layers)}
    columns = {column: index for index, column in enumerate(like.columns)}
    grids: dict[str, np.ndarray] = {}
    cells = (
        cell
        for frame in iterate_layers(predictions)
        for cell in (frame if controls is None else frame[frame["control"].isin(controls)]).groupby(
            ["control", "layer", "token"], observed=True
        )
    )
    for (control, layer, token), cell in cells:
        own = np.searchsorted(questions, cell["question_id"].to_numpy())
        found, folds = cell["score"].to_numpy(), []
        for rows in cell.groupby(["repeat", "fold"]).indices.values():
            at = own[rows]
            folds.append(compute_auc(wrong[at], found[rows], weights[:, at]))
        grid = grids.setdefault(str(control), np.full(shape, np.nan))
        grid[:, layers[layer], columns[str(token)]] = _mean(np.stack(folds))
    return [
        {control: Table(like.columns, like.layers, grid[draw]) for control, grid in grids.items()}
        for draw in range(draws)
    ]


def _mean(folds: np.ndarray) -> np.ndarray:
    """Mean over the first axis, without NaN; NaN where all are."""
    counted = np.isfinite(folds).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.nansum(folds, axis=0) / counted
