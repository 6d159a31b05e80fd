"""The questions' groups in words and numbers, for captions of the probe."""

import pandas as pd

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.probe.controls import format_share
from llm_figures.probe.protocol import BY_GROUP, SMALLEST_GROUP, Protocol


def state_groups(chosen: pd.DataFrame) -> StatedNumbers:
    """The numbers of `describe_groups`. chosen: the rows of one metric."""
    numbers = StatedNumbers()
    groups = shuffled = None
    if "groups" in chosen:
        groups = chosen.loc[(chosen["control"] == "none") & chosen["mean"].notna(), "groups"].max()
        shuffled = chosen.loc[chosen["control"] == "shuffled_within_group", "within_group"]
    row = select_chosen(chosen)
    of_probe = {**row, "control": "none"}
    numbers.add("groups", groups, "d", "largest groups of rows with a mean", row=of_probe)
    of_shuffle = {**row, "control": "shuffled_within_group"}
    for end, pick in (("low", "min"), ("high", "max")):
        value = getattr(shuffled, pick)() if shuffled is not None else None
        form = format_share if value != 1 else "{:.0%}".format
        formula = f"{pick}imum of within_group"
        numbers.add(f"shuffled_share_{end}", value, form, formula, row=of_shuffle)
    return numbers


def select_chosen(chosen: pd.DataFrame) -> dict[str, list]:
    """What selects the rows of one metric and some tokens from all scores."""
    return {column: chosen[column].unique().tolist() for column in ("metric", "token")}


def describe_groups(
    chosen: pd.DataFrame, protocol: Protocol, numbers: StatedNumbers | None = None
) -> str:
    """What the controls of the questions' groups are for these data; empty if as named.

    chosen: the rows of one metric. Scores of earlier versions do not have the numbers.
    numbers: as from `state_groups`, by default.
    """
    if "groups" not in chosen:
        return ""
    numbers = numbers or state_groups(chosen)
    fitted = chosen[(chosen["control"] == "none") & chosen["mean"].notna()]
    shuffled = chosen[chosen["control"] == "shuffled_within_group"]
    groups = numbers["groups"]
    if groups.value < 2:
        return (
            "The questions have no groups (dataset.group), so that the group of the question is "
            "untested as an explanation."
        )
    sentences = []
    if protocol.split in BY_GROUP:
        sentences.append(
            "No group is in both the training and the test set, so that group alone gives every "
            "tested answer the same score."
        )
    if "shuffled_within_group" not in protocol.controls:
        return " ".join(sentences)
    small = f"fewer than {SMALLEST_GROUP} training questions"
    if shuffled.empty:
        sentences.append(
            f"Labels cannot be shuffled within group, for the {groups} groups have {small} each"
            + (
                "."
                if protocol.split in BY_GROUP
                else "; only group alone tests the group of the question as an explanation "
                "(probe.split: group_folds trains and tests on different groups)."
            )
        )
        return " ".join(sentences)
    low, high = numbers["shuffled_share_low"], numbers["shuffled_share_high"]
    if low.value < 1:
        same = format_share(low.value) == format_share(high.value)
        shares = [f"{share}" for share in ((low,) if same else (low, high))]
        sentences.append(
            f"Labels are shuffled within group for {' to '.join(shares)} of the training "
            f"questions; groups with {small} are shuffled together."
        )
    without = [token for token in fitted["token"].unique() if token not in set(shuffled["token"])]
    if without:
        sentences.append(
            f"At {', '.join(without)} all groups have {small}, and no labels are shuffled within "
            "group."
        )
    return " ".join(sentences)
