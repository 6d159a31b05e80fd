"""Fine-tune a model for some of the steps of a training, and save it with its optimizer's state.

It goes on from the base, or from the checkpoint before.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.inference.finetuning import finetune_on_facts, replace_model, split_facts
from llm_figures.inference.options import QuestionFormat
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import FinetunedModel, Runtime
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions


def main(
    earlier: Mapping[str, str],
    output: Mapping[str, str],
    options: FinetunedModel,
    prompt: QuestionFormat,
    device: str,
    threads: int,
) -> None:
    """earlier: {model_info, questions, steps, state: files} of the checkpoint before; of the base
    only model_info. output: {weights, questions, steps, state: files}.
    """
    before, losses, state = None, [], {}
    if options.span[0]:
        before, state = read_frame(earlier["questions"]), load_file(earlier["state"])
        losses = read_frame(earlier["steps"])["loss"].tolist()
    facts, _ = load_questions(Dataset(source="facts"), prompt.shown_preamble())
    runtime = Runtime(device=device, dtype="float32")
    model, tokenizer = load_model(earlier["model_info"], runtime, threads)
    table, own = finetune_on_facts(
        model, tokenizer, split_facts(facts, options), prompt, options, before, state
    )
    losses += own
    ran_on = runtime_facts(model)
    replace_model(model, tokenizer, Path(output["weights"]))
    with whole_file(output["state"]) as partial:
        save_file(state, partial)
    write_frame(table, output["questions"], ran_on)
    write_frame(
        pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses}), output["steps"], ran_on
    )


if "snakemake" in globals():
    with job(snakemake):
        main(
            dict(snakemake.input.items()),
            dict(snakemake.output.items()),
            read_options(FinetunedModel, snakemake.params.options, "config: model_sources"),
            read_options(QuestionFormat, snakemake.params.prompt, "config: prompt"),
            snakemake.params.device,
            snakemake.threads,
        )
