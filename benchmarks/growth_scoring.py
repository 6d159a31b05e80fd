"""Scoring of attention at one size, apart: like its job, it holds no torch."""

from pathlib import Path

from growth import STATES
from measuring import measured, note

from llm_figures.attention.options import AttentionScoring

# What the figures of attention are scored with; a map of more tokens is drawn in bins.
SCORED = AttentionScoring(bins=256)


def scoring(task: dict) -> None:
    """scripts/score_attention.py on the states of the text; no model is loaded."""
    import score_attention as stage

    states = str(Path(task["folders"][task["states_of"]], STATES))
    cells = str(Path(task["folder"], "cells.parquet"))

    def work(files: list[str]) -> None:
        for file in files:
            stage.main(file, None, cells, "mean_qkv", SCORED)

    measured(task, work, [states], [], task["tokens"])
    note(task, weights_mb=0.0)
