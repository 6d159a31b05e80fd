"""Which claims could have failed: their share of reference data that satisfy them.

A reference has the shape of the run's data (texts, panels, layers, columns) and is one under which
a statement about a model has no reason to hold. A statement that (nearly) every reference satisfies
says nothing of the model, and neither does one that no data of this shape can satisfy: both are
*decided by construction*, and counted apart. docs/claims.md states the rule.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.definitions import (
    DECIDED,
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    SYMBOLS,
)
from llm_figures.claims.statistics import FLOAT32

# The share of references from which on a claim is one that nearly all satisfy.
NEARLY_ALL = 0.95
# References below which a share decides nothing, of all kinds together, and of a kind by itself.
ENOUGH = 20

# Verdicts of claims that could have failed, unless they are decided by construction.
OPEN = (REPRODUCED, NOT_REPRODUCED)
# Kinds of references, and what they are.
UNIFORM, RANDOM, RANDOM_WEIGHTS = "uniform", "random_rows", "random_weights"
PERMUTED, NOISE, SMOOTH = "permuted", "noise", "smooth"
KINDS = {
    UNIFORM: "the uniform causal map",
    RANDOM: "causal maps of random scores",
    RANDOM_WEIGHTS: "layers of the model with random weights",
    PERMUTED: "the run's own cells, permuted",
    NOISE: "independent noise",
    SMOOTH: "random columns that are smooth over the rows",
}

# {kind of reference: the claim's value on each; NaN where it is not applicable}
Values = Mapping[str, Sequence[float]]


def judge_references(
    claim: FigureClaim,
    value: float,
    verdict: str,
    values: Values,
    margins: tuple[float, float] = (0.0, 0.0),
) -> dict:
    """Columns of claims.parquet: how many references satisfy the claim, and whether it is decided.

    A claim is decided by construction if
    - it holds of the run and of 95% of the references, of all together and of every kind that has
      20 or more; or
    - it does not hold, and its value is the same in the run and in every reference: the value
      follows from the shape of the data alone.
    A claim that holds of no reference is not decided if its value varies: it could have held.

    value, verdict: of the run. margins: the ends of the run's interval minus its value, both of
        which must hold of a claim that is `certain`; a reference is as uncertain as the run.
    values: by kind. Permuted cells that all have the run's own value are left out: the statistic
        does not depend on the order of cells, so these are the run's data themselves.
    """
    known = {kind: _finite(part) for kind, part in values.items()}
    if PERMUTED in known and _same([value, *known[PERMUTED]]):
        del known[PERMUTED]
    held = {
        kind: sum(_holds(claim, one, margins) for one in part)
        for kind, part in known.items()
        if len(part)
    }
    every, satisfied = sum(len(known[kind]) for kind in held), sum(held.values())
    decided = False
    if every >= ENOUGH and verdict == REPRODUCED:
        shares = [held[kind] / len(known[kind]) for kind in held if len(known[kind]) >= ENOUGH]
        decided = min([satisfied / every, *shares]) >= NEARLY_ALL
    elif every >= ENOUGH and verdict != NOT_APPLICABLE:
        decided = satisfied == 0 and _same([value, *np.concatenate(list(known.values()))])
    return {
        "references": every,
        "held_references": satisfied,
        "references_by_kind": json.dumps(
            {kind: {"held": held[kind], "of": len(known[kind])} for kind in held}
        ),
        "decided": bool(decided),
    }


def find_decided(claims: pd.DataFrame) -> pd.Series:
    """Whether each claim is decided by construction; none is in a file of an earlier version."""
    if "decided" not in claims:
        return pd.Series(False, index=claims.index)
    return claims["decided"].astype("boolean").fillna(False).astype(bool)


def count_verdicts(claims: pd.DataFrame) -> dict[str, int]:
    """{verdict: number of claims}, for all three, without those decided by construction."""
    counts = claims.loc[~find_decided(claims), "verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in SYMBOLS}


def count_decided(claims: pd.DataFrame) -> int:
    """The number of claims decided by construction."""
    return int(find_decided(claims).sum())


def count_open(claims: pd.DataFrame) -> int:
    """The number of claims that could have failed: applicable, and not decided by construction."""
    return sum(count for verdict, count in count_verdicts(claims).items() if verdict in OPEN)


class Baseline(NamedTuple):
    """How many of some claims references satisfy on average, of those that have references."""

    satisfied: float
    claims: int

    def __str__(self) -> str:
        return f"{self.satisfied:.1f} of {self.claims}"


def compute_baseline(claims: pd.DataFrame, kind: str | None = None) -> Baseline | None:
    """The claims that could have failed, as counted for data that say nothing of the model.

    It is the sum of the claims' shares of references that satisfy them: what the count of
    reproduced claims would be, on average, for a reference in place of the run.

    kind: of the references; by default all of them. None where no claim has such references.
    """
    if "references" not in claims:  # of an earlier version
        return None
    could_fail = claims["verdict"].isin(OPEN) & ~find_decided(claims)
    shares = [find_share(row, kind) for row in claims[could_fail].to_dict("records")]
    known = [share for share in shares if share is not None]
    return Baseline(sum(known), len(known)) if known else None


def describe_baseline(claims: pd.DataFrame) -> str:
    """Random or permuted data satisfy 3.9 of the 17 on average; "" without references."""
    if (baseline := compute_baseline(claims)) is None:
        return ""
    of = f"the {baseline.claims}"
    if baseline.claims < count_open(claims):
        of = f"{baseline.claims} that have references"
    return f"random or permuted data satisfy {baseline.satisfied:.1f} of {of} on average"


def summarize(claims: pd.DataFrame) -> str:
    """14 of 17 claims that could have failed are reproduced; random or permuted data satisfy 3.9 of
    the 17 on average; 11 are decided by construction.

    In a file of an earlier version nobody knows which could have failed.
    """
    if not len(claims):
        return "no claim is checked"
    counts = count_verdicts(claims)
    known = "references" in claims and claims["references"].notna().any()
    claimed = "claims that could have failed" if known else "claims, not held against references,"
    text = f"{counts[REPRODUCED]} of {count_open(claims)} {claimed} are reproduced"
    if baseline := describe_baseline(claims):
        text += f"; {baseline}"
    for count, what in (
        (counts[NOT_APPLICABLE], NOT_APPLICABLE),
        (count_decided(claims), DECIDED),
    ):
        if count:
            text += f"; {count} {'is' if count == 1 else 'are'} {what}"
    return text


def show_share(row: Mapping) -> str:
    """31% of 125, decided: the share of a claim's references that satisfy it, in a table."""
    if (share := find_share(row)) is None:
        return "–"
    return f"{share:.0%} of {row['references']:.0f}" + ", decided" * bool(row["decided"])


def find_share(row: Mapping, kind: str | None = None) -> float | None:
    """The share of a claim's references, or of one kind, that satisfy it; None without any."""
    held, every = row.get("held_references"), row.get("references")
    if pd.isna(every) or not every:  # of an earlier version, or not applicable
        return None
    if kind is not None:
        part = json.loads(row["references_by_kind"]).get(kind)
        return part and part["held"] / part["of"]
    return held / every


def _holds(claim: FigureClaim, value: float, margins: tuple[float, float]) -> bool:
    ends = [value + margin for margin in margins] if claim.certain else [value]
    return all(map(claim.holds, ends))


def _finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]


def _same(values: Sequence[float]) -> bool:
    return bool(np.ptp(values) <= FLOAT32 * max(1.0, np.abs(values).max()))
