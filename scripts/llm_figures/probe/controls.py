"""Display names of the probe's metrics and controls, for captions, legends and pages."""

import pandas as pd

from llm_figures.probe.best_cell import (
    BRIER,
    CALIBRATION_ERROR,
    OFF_OPTION,
    OTHER_WRONG,
    SLOPE,
    WITHIN_GROUP,
)
from llm_figures.probe.protocol import (
    OUTPUT_AND_GROUP,
    OUTPUT_BASELINES,
    OUTPUT_COMBINED,
    SHUFFLED,
    VARIANT,
)
from llm_figures.questions.log_probabilities import PARTS

LABELS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "f1": "F1",
    "average_precision": "Average precision",
}
# In the order of captions and legends.
CONTROLS = {
    "embeddings": "embeddings, same token",
    "shuffled_within_group": "labels shuffled within group",
    "group_only": "group alone",
    "shuffled_labels": "labels shuffled",
    "answer_log_probability": "mean log-probability of the answer",
    "exact_answer_log_probability": "mean log-probability of the exact answer",
    "p_true": "p(true)",
    OUTPUT_COMBINED: "all confidence scores of the output together",
    OUTPUT_AND_GROUP: "all confidence scores of the output and the group",
}
_SUMMARIES = {
    "_sum": "sum of the log-probabilities",
    "_min": "least log-probability",
    "_max": "greatest log-probability",
    "_last": "last log-probability",
}
# The same with the confidence scores that only tables name.
NAMES = CONTROLS | {
    f"{part}_log_probability{suffix}": f"{words} of {of}"
    for part, of in PARTS.items()
    for suffix, words in _SUMMARIES.items()
}
# What else is said of the chosen cells.
DETAIL_NAMES = {
    WITHIN_GROUP: "AUC over pairs of the same group",
    OFF_OPTION: "AUC of wrong answers that name no option",
    OTHER_WRONG: "AUC of all other wrong answers",
    SLOPE: "calibration slope",
    CALIBRATION_ERROR: "expected calibration error",
    BRIER: "Brier score",
}
# Why a cell of a map of heads is empty: notes of probe/heads.parquet.
NO_HEADS = "the layer has no attention heads"
FEWER_HEADS = "the layer has fewer attention heads"
# These are fitted cell by cell; the other controls are the same in every layer.
FITTED = ("none", *SHUFFLED)
# A probe that does not beat one of these needs no judgement of the model to reach its score.
EXPLANATIONS = {
    "embeddings": "the token itself, which its embedding gives away",
    "shuffled_within_group": "the group of the question (labels shuffled within group)",
    "group_only": "the group of the question alone",
}
# Where a control is missing from the scores, what it takes to be there.
NEEDS = {
    "shuffled_labels": "it is fitted where probe.controls names it",
    "shuffled_within_group": "it is fitted where probe.controls names it and some groups "
    "(dataset.group) have at least 20 training questions",
    "group_only": "it takes questions in groups (dataset.group)",
    "answer_log_probability": "it takes answers that the model generated",
    "exact_answer_log_probability": "it takes answers that the model generated",
    "p_true": "it takes probe.p_true",
    OUTPUT_COMBINED: "it takes answers that the model generated",
    OUTPUT_AND_GROUP: "it takes answers that the model generated, and groups (dataset.group)",
    "nested": "a layer is chosen where training sets have enough answers, or groups",
}


def name_control(control: str, row: pd.Series, share: object = None) -> str:
    """A control's display name; of a shuffle that is only in part within groups, with the share.

    row: its row of the scores. share: its within_group as a caption states it; by default as from
    `format_share`.
    """
    part = ""
    if row.get("within_group", 1.0) < 1:
        part = f" ({share or format_share(row['within_group'])} of them)"
    return f"{name_of(control)}{part}"


def is_output(control: str) -> bool:
    """Whether a control is the output's own confidence."""
    return control in OUTPUT_BASELINES or control.startswith(VARIANT)


def name_of(control: str) -> str:
    """A control's display name; those of probe.p_true.variants follow from their keys."""
    return NAMES.get(control) or f"p(true), {control.removeprefix(VARIANT)}"


def format_share(share: float) -> str:
    """A share below 1 as a whole percentage that is neither 0% nor 100%."""
    return f"{min(max(round(100 * share), 1), 99)}%"
