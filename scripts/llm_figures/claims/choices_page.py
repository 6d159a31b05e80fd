"""Render the choices as Markdown."""

from collections.abc import Mapping

import pandas as pd

from llm_figures.claims.choices import KEYS, count_reproduced, describe_change, describe_layers
from llm_figures.claims.combinations import FIGURES
from llm_figures.claims.definitions import NOT_APPLICABLE, REPRODUCED
from llm_figures.claims.references import find_decided

HEADS = {"mean": "mean of the heads", "auto": "strongest head"}
# Combinations listed for each figure; more where more are equally good.
_LISTED = 10


def describe_map(row: Mapping) -> str:
    """The displayed map of a combination: layer 15 (50%), mean of the heads."""
    layer = f"layer {row['layer']}"
    if row["layer_choice"] != str(row["layer"]):
        layer += f" ({row['layer_choice']})"
    head = HEADS.get(row["head_choice"], f"head {row['head']}")
    return f"{layer}, {head}"


def render_choices_page(rows: pd.DataFrame, model: str) -> str:
    """choices.md: the best combinations, and how many of them reproduce each statement.

    rows: as from `choices.evaluate_choices`.
    """
    sections = [
        f"# Choices that reproduce the published figures: {model}",
        "The published figures leave open what exactly the intervention was and which map is "
        "displayed. Every combination of the config's choices is checked against the same "
        "statements. Those that are decided by construction, whatever the choice, do not count: "
        "nearly every random map satisfies them, or none can. *Random maps* is how many of the "
        "applicable statements random maps of the same shape satisfy on average."
        f"{describe_layers(rows)}",
    ]
    for operation, part in rows.groupby("operation", sort=False):
        counted = count_reproduced(part)
        sections.append(f"## {FIGURES[operation]}")
        if (counted["applicable"] > 0).any():
            sections += [_best(counted), *_by_statement(part)]
        else:
            reasons = "; ".join(part["reason"].dropna().unique())
            sections.append(f"No statement applies to any combination: {reasons}.")
    return "\n\n".join(sections) + "\n"


def _best(counted: pd.DataFrame) -> str:
    lines = [
        "| statements reproduced | random maps | intervention | map |",
        "|---:|---:|---|---|",
    ]
    best = counted["reproduced"].iloc[0]
    shown = counted[: max(_LISTED, int((counted["reproduced"] == best).sum()))]
    for row in shown.to_dict("records"):
        count = f"{row['reproduced']} of {row['applicable']}"
        baseline = "–" if pd.isna(row["baseline"]) else f"{row['baseline']:.1f}"
        lines.append(f"| {count} | {baseline} | {describe_change(row)} | {describe_map(row)} |")
    if len(counted) > len(shown):
        fewest = counted["reproduced"].iloc[-1]
        lines.append(f"| {fewest} or more | | {len(counted) - len(shown)} others | |")
    return "\n".join(lines)


def _by_statement(rows: pd.DataFrame) -> list[str]:
    """How many combinations reproduce each statement."""
    total = len(rows.drop_duplicates(KEYS))
    lines = ["| reproduced in | statement | claim |", "|---:|---|---|"]
    counts = []
    decided = find_decided(rows)
    apart = list(dict.fromkeys(rows.loc[decided, "claim"]))
    counted = rows[(rows["verdict"] != NOT_APPLICABLE) & ~decided]
    for claim, part in counted.groupby("claim", sort=False):
        count = int((part["verdict"] == REPRODUCED).sum())
        counts.append((count, len(part), part["statement"].iloc[0], claim))
    for count, applicable, statement, claim in sorted(counts, key=lambda item: -item[0]):
        lines.append(f"| {count} of {applicable} | {statement} | {claim} |")
    sections = [f"By statement, over {total} combinations:", "\n".join(lines)]
    return [*sections, f"Decided by construction: {', '.join(apart)}."] if apart else sections
