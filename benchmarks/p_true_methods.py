"""P(true) of given answers: a pass for each, and ours."""

from pathlib import Path

import numpy as np
import torch
from made import config, given_answers, load
from measuring import measured

from llm_figures.inference.prompts import fill
from llm_figures.probe.p_true import compute_p_true, split_choices


def loop(task: dict) -> None:
    @torch.inference_mode()
    def asked(model, prompts, true, false):
        shares = []
        for prompt in prompts:
            logits = model(torch.tensor([prompt], device=model.device), logits_to_keep=1).logits
            shares.append(logits[0, -1, [true, false]].float().softmax(dim=0)[0].item())
        return shares

    _asked(task, asked)


def ours(task: dict) -> None:
    size = config(task)["batch_size"]

    def asked(model, prompts, true, false):
        batches = compute_p_true(model, prompts, true, false, batch_size=size)
        of = {at: one for batch, row in batches for at, one in zip(batch, row, strict=True)}
        return [of[at] for at in range(len(prompts))]

    _asked(task, asked)


def _asked(task: dict, method) -> None:
    ask = config(task)["probe"]["p_true"]
    model, tokenizer = load(task)
    common, true, false = split_choices(tokenizer, ask["if_true"], ask["if_false"])
    prompts = [
        tokenizer(
            fill(
                ask["prompt"],
                question=row.question,
                answer=row.exact_answer,
                exact_answer=row.exact_answer,
            )
        )["input_ids"]
        + common
        for row in given_answers(task, tokenizer).itertuples()
    ]

    def work(prompts):
        return method(model, prompts, true, false)

    shares = measured(task, work, prompts, prompts[:1], len(prompts))
    np.save(Path(task["folder"], "shares.npy"), shares)
