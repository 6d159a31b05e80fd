"""Stages of the pipeline at one size: attention of one long text, states of a deeper model."""

from functools import partial
from pathlib import Path

import torch
from growth import STATES
from made import SEED, load, repeated, valid_answers
from measuring import measured, note
from states_methods import to_file

from llm_figures.models.options import Runtime

MB = 2**20
ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 4  # tokens


def extraction(task: dict) -> None:
    """scripts/extract_attention_states.py on one text, after the model is loaded."""
    import extract_attention_states as stage

    loaded = load(task)
    model, tokenizer = loaded
    stage.load_model = lambda *_, **__: loaded
    file = str(Path(task["folder"], STATES))

    def work(text: str) -> None:
        stage.main(task["model_info"], file, [text], Runtime(), task["cores"])

    text = long_text(tokenizer, task["tokens"])
    measured(task, work, text, long_text(tokenizer, WARM_UP), task["tokens"])
    note(task, weights_mb=weights_mb(model))


def layers(task: dict) -> None:
    """States of every layer, as `states_methods.ours`, of a model of so many random blocks."""
    torch.set_num_threads(task["cores"])
    model = random_model(task)
    answers = valid_answers(task, task["questions"])
    answers = repeated(answers, task["questions"])
    path = Path(task["folder"], STATES)
    measured(task, partial(to_file, task, model, path), answers, answers[:1], task["layers"])
    note(task, weights_mb=weights_mb(model))


def random_model(task: dict):
    """The run's model with another number of blocks and weights drawn anew."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from llm_figures.models.cpu_kernels import prepare_for_cpu
    from llm_figures.models.model_info import read_model_info

    folder = read_model_info(task["model_info"])["folder"]
    torch.manual_seed(SEED)
    shape = AutoConfig.from_pretrained(folder, num_hidden_layers=task["layers"])
    model = AutoModelForCausalLM.from_config(shape, dtype=torch.float32).eval()
    prepare_for_cpu(model)
    return model


def weights_mb(model) -> float:
    return sum(p.numel() * p.element_size() for p in model.parameters()) / MB


def long_text(tokenizer, tokens: int) -> str:
    """English of so many tokens, or as few more as the tokenizer makes of the next character."""
    words = (ROOT / "README.md").read_text(encoding="utf-8")
    ids = tokenizer(words)["input_ids"]
    while len(ids) < tokens:
        ids += ids
    text = tokenizer.decode(ids)
    low, high = 1, 40 * tokens  # characters; token counts rise with them
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer(text[:middle])["input_ids"]) < tokens:
            low = middle + 1
        else:
            high = middle
    return text[:low]
