"""Fine-tune a model on some of the built-in facts and save it as a transformers folder."""

from pathlib import Path

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.inference.finetuning import finetune_on_facts, replace_model, split_facts
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
) -> None:
    facts, _ = load_questions(Dataset(source="facts"), prompt.shown_preamble())
    model, tokenizer = load_model(model_info, Runtime(device=device, dtype="float32"), threads)
    table, losses = finetune_on_facts(
        model, tokenizer, split_facts(facts, options), prompt, options
    )
    runtime = runtime_facts(model)
    replace_model(model, tokenizer, Path(weights))
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
        )
