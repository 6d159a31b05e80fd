"""The choices for people: choices.md."""

from collections.abc import Mapping

import pandas as pd

from llm_figures.claims.choices import FIGURES, KEYS, made, summary
from llm_figures.claims.definitions import NOT_APPLICABLE, REPRODUCED

HEADS = {"mean": "mean of the heads", "auto": "strongest head"}
_SHOWN = 10


def place(row: Mapping) -> str:
    """Which map is shown: layer 15 (50%), mean of the heads."""
    layer = f"layer {row['layer']}"
    if row["layer_choice"] != str(row["layer"]):
        layer += f" ({row['layer_choice']})"
    head = HEADS.get(row["head_choice"], f"head {row['head']}")
    return f"{layer}, {head}"


def choices_page(rows: pd.DataFrame, model: str) -> str:
    """Markdown: the best combinations, and what each statement depends on.

    rows: as from `choices.choice_rows`.
    """
    sections = [
        f"# Which choice reproduces it? {model}",
        "The published figures leave open what exactly was changed, and which map is shown. Every "
        "combination of the config's choices is checked against the same statements.",
    ]
    for operation, part in rows.groupby("operation", sort=False):
        counted = summary(part)
        sections.append(f"## {FIGURES[operation]}")
        if (counted["applicable"] > 0).any():
            sections += [_best(counted), *_by_statement(part)]
        else:
            reasons = "; ".join(part["reason"].dropna().unique())
            sections.append(f"No statement applies to any combination: {reasons}.")
    return "\n\n".join(sections) + "\n"


def _best(counted: pd.DataFrame) -> str:
    lines = ["| statements reproduced | change | map |", "|---:|---|---|"]
    best = counted["reproduced"].iloc[0]
    shown = counted[: max(_SHOWN, int((counted["reproduced"] == best).sum()))]
    for row in shown.to_dict("records"):
        count = f"{row['reproduced']} of {row['applicable']}"
        lines.append(f"| {count} | {made(row)} | {place(row)} |")
    if len(counted) > len(shown):
        fewest = counted["reproduced"].iloc[-1]
        lines.append(f"| {fewest} or more | {len(counted) - len(shown)} further | |")
    return "\n".join(lines)


def _by_statement(rows: pd.DataFrame) -> list[str]:
    """Which statements hold always, never, or depending on the choice."""
    total = len(rows.drop_duplicates(KEYS))
    lines = ["| reproduced by | statement | claim |", "|---:|---|---|"]
    found = []
    for claim, part in rows[rows["verdict"] != NOT_APPLICABLE].groupby("claim", sort=False):
        count = int((part["verdict"] == REPRODUCED).sum())
        found.append((count, len(part), part["statement"].iloc[0], claim))
    for count, applicable, statement, claim in sorted(found, key=lambda item: -item[0]):
        lines.append(f"| {count} of {applicable} | {statement} | {claim} |")
    return [f"By statement, over all {total} combinations:", "\n".join(lines)]
