"""Measure how the weights differ from another checkpoint's, projection by projection."""

import pandas as pd
import torch

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.checkpoints import check_same_architecture, open_checkpoint
from llm_figures.modules.options import Update
from llm_figures.modules.weight_metrics import compute_update_metrics


def main(
    model_info: str, other: str, updates: str, metrics: list[str], options: Update, threads: int
) -> None:
    """other: the model info of the earlier checkpoint that the model is compared with."""
    torch.set_num_threads(threads)
    model, earlier = open_checkpoint(model_info), open_checkpoint(other)
    check_same_architecture(model, earlier)
    rows = []
    for layer in progress(range(model.layers), "layers"):
        for projection in model.projections(layer):
            place = (layer, projection)
            values = compute_update_metrics(
                zip(earlier.matrices(*place), model.matrices(*place), strict=True),
                metrics,
                options,
                f"the weights of {projection!r} in layer {layer} of {earlier.where} or "
                f"{model.where}",
            )
            rows += [(*place, metric, value) for metric, value in values.items()]
    frame = pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])
    write_frame(frame.astype({"layer": "int32"}), updates)
    log.info("compared with %s: %s", earlier.where, ", ".join(metrics))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.other,
            snakemake.output.updates,
            snakemake.params.metrics,
            Update.model_validate(snakemake.params.options),
            snakemake.threads,
        )
