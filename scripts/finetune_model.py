"""Fine-tune a model on some of the built-in facts and save it as a transformers folder.

A checkpoint of a training is made from the one before it, whose optimizer's state it takes over.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.inference.finetuning import finetune_on_facts, save_model, split_facts
from llm_figures.inference.options import QuestionFormat
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import FinetunedModel, Runtime
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions


def main(
    model_info: str,
    weights: str,
    questions: str,
    steps: str,
    options: FinetunedModel,
    prompt: QuestionFormat,
    device: str,
    threads: int,
    *,
    earlier: Mapping[str, str] | None = None,
    state: str | None = None,
) -> None:
    """Train the model of `model_info`, the base or the checkpoint before.

    earlier: {questions, steps, state: files} of the checkpoint before; None for a training that
    begins with the base. state: the file for the state of the optimizer; None writes none.
    """
    earlier = earlier or {}
    before = read_frame(earlier["questions"]) if earlier else None
    moments = load_file(earlier["state"]) if earlier else {}
    facts, _ = load_questions(Dataset(source="facts"), prompt.shown_preamble())
    model, tokenizer = load_model(model_info, Runtime(device=device, dtype="float32"), threads)
    table, losses = finetune_on_facts(
        model, tokenizer, split_facts(facts, options), prompt, options, before, moments
    )
    if earlier:
        losses = [*read_frame(earlier["steps"])["loss"], *losses]
    runtime = runtime_facts(model)
    folder = Path(weights).parent
    folder.mkdir(parents=True, exist_ok=True)
    for remnant in folder.glob(".model.*"):  # of a run that was killed
        shutil.rmtree(remnant, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as work:
        save_model(model, tokenizer, Path(work))
        # weights last: without them the folder is not taken for a model
        files = sorted(Path(work).iterdir(), key=lambda path: path.name == Path(weights).name)
        for path in files:
            shutil.move(path, folder / path.name)
    if state is not None:
        with whole_file(state) as partial:
            save_file(moments, partial)
    write_frame(table, questions, runtime)
    write_frame(pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses}), steps, runtime)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.weights,
            snakemake.output.questions,
            snakemake.output.steps,
            read_options(FinetunedModel, snakemake.params.options, "config: model_sources"),
            read_options(QuestionFormat, snakemake.params.prompt, "config: prompt"),
            snakemake.params.device,
            snakemake.threads,
            earlier={
                key: snakemake.input[key]
                for key in ("questions", "steps", "state")
                if key in snakemake.input.keys()  # noqa: SIM118 (a list of files with names)
            },
            state=snakemake.output.get("state"),
        )
