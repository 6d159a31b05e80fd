"""AUC within groups: how well a probe tells wrong from right answers to questions of one group.

Only pairs of a wrong and a right answer of the same group count, both tested by the same probe. A
probe that merely knows which group is asked scores 0.5.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from llm_figures.probe.best_cell import ANY_TOKEN, CHOSEN_LAYER
from llm_figures.probe.classification_metrics import draw_resamples
from llm_figures.probe.stored_predictions import Predictions, iterate_layers

# Bootstrap resamples behind an interval.
DRAWS = 1000
# A group with fewer answers of either label gives no AUC.
FEWEST = 4
COLUMNS = [
    "layer", "token", "level", "group", "n", "wrong_share", "pairs", "auc", "ci_low", "ci_high",
    "note",
]  # fmt: skip
GROUP, MEAN = "group", "mean"
TOO_FEW = f"fewer than {FEWEST} right or wrong answers"
NO_PAIR = "no test set has a right and a wrong answer"
UNTESTED = "in no test set"
NO_CELL = "no cell could be chosen on the training answers"


def tabulate_within_groups(
    predictions: Predictions, nested: pd.DataFrame, answers: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Rows by layer, token and group, of the probe itself and of nested selection.

    predictions: question_id, score, layer, token, repeat, fold of the probe itself. nested: the
    same of the cell chosen in each split, as from `nested.select_nested`. answers: question_id,
    group, split_group, correct of the valid answers.

    auc: over all pairs of a group in the same split. ci_low, ci_high: 95% of `DRAWS` bootstrap
    resamples of the group's questions; the probes are not fitted again. n, wrong_share: of the
    answers that are tested. A group without an AUC has a note that says why, also where none of its
    answers is tested. Rows with level "mean" are of the pairs of all groups that have one. Rows
    of nested selection have layer −1 and token "any"; where no cell was chosen, no group has an
    AUC.
    """
    answers = answers.sort_values("question_id", ignore_index=True)
    names = answers["group"].fillna("").astype(str).to_numpy()
    wrong = ~answers["correct"].to_numpy(bool)
    weights = _draw_weights(names, answers["split_group"].to_numpy(), seed)
    questions = answers["question_id"].to_numpy()
    rows: list[dict] = []
    if nested.empty:
        place = {"layer": CHOSEN_LAYER, "token": ANY_TOKEN}
        rows += [place | _leave_out(name, NO_CELL) for name in np.unique(names)]
    nested = nested.assign(layer=CHOSEN_LAYER, token=ANY_TOKEN)
    for frame in chain([nested], iterate_layers(predictions)):
        for (layer, token), cell in frame.groupby(["layer", "token"], observed=True, sort=False):
            place = {"layer": int(layer), "token": str(token)}
            at = np.searchsorted(questions, cell["question_id"].to_numpy())
            splits = np.unique(cell[["repeat", "fold"]].to_numpy(), axis=0, return_inverse=True)[1]
            found = _tabulate_cell(at, cell["score"].to_numpy(), splits, names, wrong, weights)
            rows += [place | row for row in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def _draw_weights(names: np.ndarray, split_groups: np.ndarray, seed: int) -> np.ndarray:
    """[1 + draws, answers]: each once, then bootstrap resamples within every group."""
    weights = np.ones((1 + DRAWS, len(names)))
    for number, name in enumerate(np.unique(names)):
        inside = np.flatnonzero(names == name)
        weights[:, inside] = draw_resamples(split_groups[inside], DRAWS, [seed, number])
    return weights


def _tabulate_cell(
    at: np.ndarray,
    scores: np.ndarray,
    splits: np.ndarray,
    names: np.ndarray,
    wrong: np.ndarray,
    weights: np.ndarray,
) -> Iterator[dict]:
    """Rows of one cell. at, scores, splits: [tested]; the others: of all answers."""
    every_above, every_pair = np.zeros((2, len(weights)))
    size = 0
    for name in np.unique(names):
        inside = np.flatnonzero(names[at] == name)
        if not len(inside):
            few = np.bincount(wrong[names == name], minlength=2).min() < FEWEST
            yield _leave_out(name, TOO_FEW if few else UNTESTED)
            continue
        tested = np.unique(at[inside])
        counts = np.bincount(wrong[tested], minlength=2)
        row = {
            "level": GROUP,
            "group": name,
            "n": len(tested),
            "wrong_share": counts[1] / len(tested),
            "pairs": 0,
            "note": "",
        }
        if counts.min() < FEWEST:
            yield row | {"note": TOO_FEW}
            continue
        above, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for split in np.unique(splits[inside]):
            own = inside[splits[inside] == split]
            is_wrong = wrong[at[own]]
            two = own[is_wrong], own[~is_wrong]
            if not len(two[0]) or not len(two[1]):
                continue
            higher, every = _count_pairs(*((scores[part], weights[:, at[part]]) for part in two))
            above, pairs = above + higher, pairs + every
        if not pairs[0]:
            yield row | {"note": NO_PAIR}
            continue
        with np.errstate(invalid="ignore"):
            aucs = above / pairs
        yield row | {"pairs": int(pairs[0])} | _summarise(aucs)
        every_above, every_pair = every_above + above, every_pair + pairs
        size += len(tested)
    row = {
        "level": MEAN,
        "group": None,
        "n": size,
        "wrong_share": float(wrong[np.unique(at)].mean()),
        "pairs": int(every_pair[0]),
        "note": "",
    }
    if not size:
        yield row | {"note": NO_PAIR}
        return
    with np.errstate(invalid="ignore"):
        yield row | _summarise(every_above / every_pair)


def _leave_out(name: str, note: str) -> dict:
    """The row of a group of which no answer is tested. note: why."""
    return {
        "level": GROUP,
        "group": name,
        "n": 0,
        "wrong_share": np.nan,
        "pairs": 0,
        "auc": np.nan,
        "ci_low": np.nan,
        "ci_high": np.nan,
        "note": note,
    }


def _count_pairs(
    wrong: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in which the wrong answer has the higher score, or half of an equal one; all pairs.

    wrong, right: scores [answers] and weights [draws, answers]. Both results are [draws]. No pair
    is looked at: that would be 10⁸ of 20,000 answers.
    """
    (scores, weights), (others, of_others) = wrong, right
    order = np.argsort(others)
    below = np.zeros((len(weights), len(others) + 1))  # the weight of the lowest right answers
    np.cumsum(of_others[:, order], axis=1, out=below[:, 1:])
    first, last = (np.searchsorted(others[order], scores, side) for side in ("left", "right"))
    higher = (weights * (below[:, first] + below[:, last])).sum(axis=1) / 2
    return higher, weights.sum(axis=1) * below[:, -1]


def _summarise(aucs: np.ndarray) -> dict[str, float]:
    """The value of the first draw with the interval of the others."""
    drawn = aucs[1:][np.isfinite(aucs[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return {"auc": float(aucs[0]), "ci_low": float(low), "ci_high": float(high)}


def list_without_auc(rows: pd.DataFrame) -> Sequence[str]:
    """The groups without an AUC of their own, of one cell's rows."""
    groups = rows[(rows["level"] == GROUP) & rows["auc"].isna()]
    return [name or "no group" for name in groups["group"]]
