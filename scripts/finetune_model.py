"""A model taught some of the built-in facts, as a transformers folder."""

import shutil
import tempfile
from pathlib import Path

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.inference.finetuning import finetuned, save, taught_questions
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.questions.questions import load_questions

FACTS = {"source": "facts", "limit": None, "seed": 0}


def main(
    model_info: str,
    weights: str,
    questions: str,
    steps: str,
    options: dict,
    prompt: dict,
    device: str,
    threads: int,
) -> None:
    options = dict(options)
    groups, share = options.pop("groups"), options.pop("share")
    asked, _ = load_questions(FACTS, prompt.get("preamble", ""))
    table = taught_questions(asked, groups, share, options["seed"])
    model, tokenizer = load_model(model_info, Runtime(device=device, dtype="float32"), threads)
    table, losses = finetuned(model, tokenizer, table, prompt, options)
    facts = runtime_facts(model)
    folder = Path(weights).parent
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".model.*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as work:
        save(model, tokenizer, Path(work))
        # the weights last: without them the folder is no model
        files = sorted(Path(work).iterdir(), key=lambda path: path.name == Path(weights).name)
        for path in files:
            shutil.move(path, folder / path.name)
    write_frame(table, questions, facts)
    write_frame(pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses}), steps, facts)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.weights,
            snakemake.output.questions,
            snakemake.output.steps,
            snakemake.params.options,
            snakemake.params.prompt,
            snakemake.params.device,
            snakemake.threads,
        )
