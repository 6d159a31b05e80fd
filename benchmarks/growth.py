"""How time and memory of ours grow: over questions, over tokens of a text, over layers.

Over questions, states are extracted, and probes are fitted to made-up states.
"""

from collections.abc import Sequence
from itertools import starmap, zip_longest

import numpy as np
import pandas as pd
from works import Method, Work

QUESTIONS = (250, 500, 1000, 2000, 4000)
# Takes a quarter of an hour each time, and 11 GB of disk.
MANY_QUESTIONS = 20_000
FITTED_QUESTIONS = (1000, 4000, 20_000, 100_000)
TOKENS = (64, 256, 1024, 4096, 8192)
LAYERS = (5, 10, 20, 30)
# Stages of attention, and who runs each.
STAGES = {"extraction": "growth_methods", "scoring": "growth_scoring"}
STATES = "states.parquet"  # of a text, in the folder of the extraction
# What a tiny model takes instead of the first ones; the others are left out there.
FEW_QUESTIONS, FEW_TOKENS, FEW_LAYERS, FEW_FITTED = (8, 16), (8, 32), (1, 2), (100, 200)
# Memory that grows by less than this share from the smallest size to the largest is called flat.
FLAT = 0.1


def growth(costs: pd.DataFrame) -> str:
    """The exponents of time and memory in the size, `count`, for each stage of the work.

    An exponent is the slope of a least-squares line in log-log: 1 is in proportion to the size, 2
    with its square. Small sizes bend it towards 0, as what they cost is mostly what any size does.
    """
    stage = costs["method"].str.rpartition(", ")[0]
    return "\n\n".join(_stage(name, rows) for name, rows in costs.groupby(stage, sort=False))


def _stage(name: str, costs: pd.DataFrame) -> str:
    median = costs.groupby("count").median(numeric_only=True)
    sizes = median.index.to_numpy()
    begin = f"{name[:1].upper()}{name[1:]}: time" if name else "Time"
    words = [f"{begin} grows as {_exponents(sizes, median['seconds'].to_numpy())}."]
    memory, what = median["peak_mb"].to_numpy(), "Peak memory"
    if "weights_mb" in median and median["weights_mb"].notna().all():  # other works may tell it
        memory, what = memory - median["weights_mb"].to_numpy(), "Peak memory less the weights"
    span = f"{memory[0]:,.0f} to {memory[-1]:,.0f} MiB"
    if memory[-1] < (1 + FLAT) * memory[0]:
        words.append(f"{what} is flat: {span} from the smallest size to the largest.")
    else:
        words.append(f"{what}, {span}, grows as {_exponents(sizes, memory)}.")
        above = memory[1:] - memory[0]
        if (above > 0).all() and len(above) > 1:
            words.append(
                f"What it takes above the smallest size grows as {_exponents(sizes[1:], above)}."
            )
    return " ".join(words)


def _exponents(sizes: np.ndarray, costs: np.ndarray) -> str:
    half = len(sizes) // 2
    return (
        f"size^{exponent(sizes, costs):.2f} over all sizes, "
        f"size^{exponent(sizes[half:], costs[half:]):.2f} over the larger half"
    )


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Least-squares slope of log cost over log size; NaN for a single size."""
    if len(sizes) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def over_questions(count: int, few: int | None) -> Method:
    """The work for a question is the same again and again, so few are asked, each many times."""
    return Method(
        f"{count:,} questions",
        "states_methods:ours",
        options={"repeated": count},
        small=few and {"repeated": few},
    )


def over_fitted_questions(count: int, few: int | None) -> Method:
    return Method(
        f"{count:,} questions",
        "growth_probes:probes",
        options={"questions": count},
        small=few and {"questions": few},
    )


def over_tokens(stage: str, count: int, few: int | None) -> Method:
    options = {"tokens": count}
    if stage == "scoring":
        options["states_of"] = token_method("extraction", count)
    name = token_method(stage, count)
    function = f"{STAGES[stage]}:{stage}"
    return Method(name, function, options=options, small=few and {"tokens": few})


def token_method(stage: str, count: int) -> str:
    return f"{stage}, {count:,} tokens"


def over_layers(count: int, few: int | None) -> Method:
    return Method(
        f"{count} layers",
        "growth_methods:layers",
        options={"layers": count},
        small=few and {"layers": few},
    )


WORKS = (
    Work(
        "growth over questions",
        tuple(starmap(over_questions, zip_longest(QUESTIONS, FEW_QUESTIONS))),
        options={"questions": 250},
        small={"questions": 8},
        summary=growth,
    ),
    Work(
        "growth over questions, 20,000",
        (over_questions(MANY_QUESTIONS, None),),
        options={"questions": 250},
        small=None,
        named_only=True,
    ),
    Work(
        "growth over questions, probes",
        tuple(starmap(over_fitted_questions, zip_longest(FITTED_QUESTIONS, FEW_FITTED))),
        options={"features": 576},
        small={"features": 16},
        summary=growth,
    ),
    Work(
        "growth over tokens",
        tuple(
            over_tokens(stage, *sizes)
            for sizes in zip_longest(TOKENS, FEW_TOKENS)
            for stage in STAGES
        ),
        summary=growth,
    ),
    Work(
        "growth over layers",
        tuple(starmap(over_layers, zip_longest(LAYERS, FEW_LAYERS))),
        options={"questions": 64},
        small={"questions": 8},
        summary=growth,
    ),
)
