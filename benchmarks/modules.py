"""Works of the module map: what every measure's metrics cost beside the obvious loop."""

from pathlib import Path

import numpy as np
import pandas as pd
from works import DisagreementError, Method, Work

# How far the methods may be apart in a metric: of its value, or in the unit that is named.
LARGEST_DIFFERENCE = {
    "operation_strength": (1e-4, None),
    "output_rms": (1e-4, None),
    "input_alignment": (1e-4, None),
    "ablation_effect": (1e-4, "nats"),
    "ablation_kl": (1e-4, "nats"),
    "probe_auc": (0.005, "of AUC"),
    "relative_update": (1e-4, None),
    "update_density": (1e-4, None),
    "update_effective_rank": (1e-3, None),
    # The loop has it in float32, where spans whose next singular value is close are uncertain.
    "subspace_rotation": (0.02, "degrees"),
    "quantization_error": (1e-4, None),
    "gguf_error": (1e-4, None),
}
KEYS = ["metric", "layer", "projection"]
LOOP, OURS = "the obvious loop", "ours"


def same_scores(folders: dict[str, Path]) -> str:
    loop, ours = (
        pd.read_parquet(folders[method] / "scores.parquet").set_index(KEYS)["value"].sort_index()
        for method in (LOOP, OURS)
    )
    if not loop.index.equals(ours.index):
        raise DisagreementError("the methods have scores of other projections or metrics")
    sentences = []
    for metric in ours.index.unique("metric"):
        most, unit = LARGEST_DIFFERENCE[metric]
        apart = (ours[metric] - loop[metric]).abs()
        if unit is None:
            apart /= loop[metric].abs()
        largest = np.max(apart.to_numpy())  # NaN, and so too large, where one has no value
        said = f"{largest:.1e} {unit or 'of its value'}"
        if not largest <= most:
            raise DisagreementError(f"{metric}: the loop and ours differ by {said}")
        sentences.append(f"`{metric}` by at most {said}")
    return f"Of {len(ours[metric])} projections, ours differ in {', in '.join(sentences)}."


def work(measure: str, small: dict | None = None, **options) -> Work:
    return Work(
        f"module map, {measure}",
        (
            Method(LOOP, f"modules_methods:{measure}_loop"),
            Method(OURS, f"modules_methods:{measure}"),
        ),
        options=options,
        small=small or {},
        agree=same_scores,
    )


WORKS = (
    # texts: so many of the config's. layers: the first so many blocks; None: all.
    work("activity", texts=6, small={"texts": 2}),
    work("ablation", texts=2, small={"texts": 1}),
    work("probes", questions=128),
    work("updates", layers=6, tolerance=0.0, top_k=16, small={"layers": 2, "top_k": 4}),
    work("quantization", bits=4, block_size=32),
)
