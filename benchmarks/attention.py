"""The work attention: weights of one layer, averaged over heads, under nine interventions.

The nine are every kind of change of the three figures, of Query, Key and Value each, made after
rotary embedding: the mean over features, the mean over tokens, a scaling by 0.5. The layer is the
one at four fifths of the depth, which for the default model is the one that its figures show. What
counts is the time from token ids to maps, one text a pass.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from works import DisagreementError, Method, Work

TOLERANCE = 1e-4  # of a weight, a number from 0 to 1
DEPTH = 0.8


def agree(folders: dict[str, Path]) -> str:
    """How far the methods' weights are from the first one's.

    Raises:
        DisagreementError: further than the tolerance.
    """
    largest = _furthest(folders, lambda apart: apart.max(), TOLERANCE)
    return f"The maps differ by {largest:.1g} at most."


def agree_by_row(folders: dict[str, Path], largest: float) -> str:
    """The same by how much of a query's weight lies elsewhere: by half of a row's differences.

    In low precision the most that single weights differ by says nothing: in a long text every
    weight is small.
    """
    found = _furthest(folders, lambda apart: apart.sum(axis=-1).max() / 2, largest)
    return f"Of the rows' weight {found:.1%} at most lies elsewhere than in the first maps."


def _furthest(
    folders: dict[str, Path], distance: Callable[[np.ndarray], float], tolerance: float
) -> float:
    maps = {name: np.load(folder / "maps.npy", mmap_mode="r") for name, folder in folders.items()}
    (first, expected), *others = maps.items()
    largest = 0.0
    for name, found in others:
        if found.shape != expected.shape:
            raise DisagreementError(f"{name}: maps of {found.shape}, {first}: {expected.shape}")
        for one, other in zip(found, expected, strict=True):  # an intervention at a time
            apart = float(distance(np.abs(one - other)))
            if not apart <= tolerance:
                raise DisagreementError(f"{name}: weights {apart:.2g} from those of {first}")
            largest = max(largest, apart)
    return largest


def work(tokens: int, texts: int, whole: float, early: float, largest_mb: float | None) -> Work:
    """whole, early: how many times faster we are to be than peers, and than peers that stop."""
    return Work(
        name=f"attention, {tokens:,} tokens",
        methods=(
            Method("plain transformers", "attention_methods:plain", target=whole),
            Method("plain transformers, stopped", "attention_methods:stopped", target=early),
            Method("nnsight", "attention_nnsight:whole", "nnsight", whole),
            Method("nnsight, stopped", "attention_nnsight:stopped", "nnsight", early),
            Method(
                "TransformerLens", "attention_transformer_lens:whole", "transformer-lens", whole
            ),
            Method(
                "TransformerLens, stopped",
                "attention_transformer_lens:stopped",
                "transformer-lens",
                early,
            ),
            Method("ours", "attention_methods:ours"),
        ),
        options={"tokens": tokens, "texts": texts, "depth": DEPTH},
        small={"tokens": 12} if tokens == 14 else None,
        agree=agree,
        largest_mb=largest_mb,
    )


WORKS = (
    work(14, 3, whole=12, early=8, largest_mb=None),
    work(512, 3, whole=15, early=8, largest_mb=900),
    work(2048, 1, whole=40, early=22, largest_mb=1100),
)
