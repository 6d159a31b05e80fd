"""Measure the rounding error of quantisation, projection by projection."""

from contextlib import ExitStack

import pandas as pd
import torch

from llm_figures.core.environment import cache_folder
from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.checkpoints import open_checkpoint
from llm_figures.models.model_info import read_model_info
from llm_figures.modules.options import Quantization
from llm_figures.modules.weight_metrics import quantization_error


def main(
    model_info: str, errors: str, metrics: list[str], options: Quantization, threads: int
) -> None:
    torch.set_num_threads(threads)
    model = open_checkpoint(model_info)
    with ExitStack() as files:
        measures = {}
        if "quantization_error" in metrics:
            measures["quantization_error"] = lambda layer, projection: quantization_error(
                model.matrices(layer, projection),
                options,
                f"the weights of {projection!r} in layer {layer} of {model.where}",
            )
        if "gguf_error" in metrics:
            from llm_figures.modules.gguf_error import GgufFile, open_gguf

            path = files.enter_context(open_gguf(read_model_info(model_info), cache_folder()))
            measures["gguf_error"] = GgufFile(path, model).expected_error
        rows = [
            (layer, projection, metric, measures[metric](layer, projection))
            for layer in progress(range(model.layers), "layers")
            for projection in model.projections(layer)
            for metric in metrics
        ]
    frame = pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])
    write_frame(frame.astype({"layer": "int32", "value": "float64"}), errors)
    log.info("%s of %s", " and ".join(metrics), model.where)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.errors,
            snakemake.params.metrics,
            Quantization.model_validate(snakemake.params.options),
            snakemake.threads,
        )
