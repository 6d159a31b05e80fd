"""Collect the figures' key numbers of every checkpoint in one tidy table."""

from collections.abc import Sequence
from pathlib import Path

from llm_figures.comparison.checkpoints import (
    Checkpoint,
    describe_same_weights,
    tabulate_checkpoints,
)
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.model_info import read_model_info


def main(checkpoints: Sequence[dict], figures: Sequence[str], scores: str) -> None:
    """checkpoints: {model, label, x, folder} of each; x is None for its number of parameters."""
    found = []
    for one in checkpoints:
        folder = Path(one["folder"])
        info = read_model_info(folder / "model.json")
        found.append(
            Checkpoint(
                label=one["label"],
                model=one["model"],
                x=info["parameters"] if one["x"] is None else one["x"],
                weights=tuple(sorted(info["weights"].values())),
                numbers={name: folder / "figures" / f"{name}.numbers.json" for name in figures},
                answers=folder / "forward" / "answers.parquet",
                modules=folder / "modules" / "scores.parquet",
            )
        )
    table = tabulate_checkpoints(sorted(found, key=lambda one: one.x))
    if same := describe_same_weights(table):
        log.info("%s", same)
    write_frame(table, scores)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.params.checkpoints, snakemake.params.figures, snakemake.output.scores)
