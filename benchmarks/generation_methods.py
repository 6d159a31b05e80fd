"""Answers to the config's questions, greedy and sampled: transformers' own generation, and ours."""

import json
from pathlib import Path

import torch
from limit import head_operations, shared_operations
from made import asked_as, asked_questions, config, load
from measuring import measured, note
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList

from llm_figures.inference.generation import generate
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import tokenize_questions
from llm_figures.inference.resampling import choose_by_draws, draw_numbers, sample_answers

# Of sampled answers.
TEMPERATURE, SEED = 1.0, 0


def loop(task: dict) -> None:
    _answered(task, lambda *given: plain(*given, batch_size=1))


def plain_batches(task: dict) -> None:
    _answered(task, lambda *given: plain(*given, batch_size=task["plain_batch"]))


def ours(task: dict) -> None:
    size = config(task)["batch_size"]

    def answered(model, tokenizer, prompts, stop, max_new_tokens):
        batches = generate(
            model, tokenizer, prompts, batch_size=size, stop=stop, max_new_tokens=max_new_tokens
        )
        texts = {answer.index: answer.text for batch in batches for answer in batch}
        return [texts[index] for index in range(len(prompts))]

    _answered(task, answered)


def _answered(task: dict, method) -> None:
    asking = asked_as(task)
    model, tokenizer = load(task)
    prompts = tokenize_questions(tokenizer, asking, asked_questions(task)["question"].tolist())
    stop, most = asking.stop_strings(), asking.max_new_tokens

    def work(prompts):
        return method(model, tokenizer, prompts, stop, most)

    texts = measured(task, work, prompts, prompts[:1], len(prompts) * task.get("samples", 1))
    said = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    note(task, tokens=sum(said))
    if task["function"].endswith(":ours"):
        lengths = [len(prompt) + tokens for prompt, tokens in zip(prompts, said, strict=True)]
        blocks = shared_operations(model, lengths, len(shared_prefix(prompts)))
        head = head_operations(model, len(prompts) + sum(said))
        note(task, operations=blocks + head)
    Path(task["folder"], "texts.json").write_text(json.dumps(texts))


def sampled_loop(task: dict) -> None:
    def answered(model, tokenizer, prompts, stop, max_new_tokens):
        texts = []
        for index, prompt in enumerate(prompts):
            for number in range(task["samples"]):
                draw = Draw(draw_numbers(SEED, index, number, max_new_tokens), len(prompt))
                texts += plain(
                    model, tokenizer, [prompt], stop, max_new_tokens, batch_size=1, choose=draw
                )
        return texts

    _answered(task, answered)


def sampled_ours(task: dict) -> None:
    size = config(task)["batch_size"]

    def answered(model, tokenizer, prompts, stop, max_new_tokens):
        batches = sample_answers(
            model,
            tokenizer,
            prompts,
            count=task["samples"],
            temperature=TEMPERATURE,
            seed=SEED,
            stop=stop,
            max_new_tokens=max_new_tokens,
            batch_size=size,
        )
        found = sorted(
            (sample.answer.index, sample.number, sample.answer.text)
            for batch in batches
            for sample in batch
        )
        return [text for _, _, text in found]

    _answered(task, answered)


class Draw(LogitsProcessor):
    """Leaves the one token that a random number chooses, as the pipeline's sampling does.

    numbers: one per new token. width: of the prompt, in tokens.
    """

    def __init__(self, numbers, width: int):
        self._numbers, self._width = numbers, width

    def __call__(self, input_ids, scores):
        number = self._numbers[input_ids.shape[1] - self._width]
        ((token,),) = choose_by_draws(scores, TEMPERATURE, [[number]])
        left = torch.full_like(scores, -torch.inf)
        left[0, token] = 0
        return left


def plain(model, tokenizer, prompts, stop, max_new_tokens, *, batch_size, choose=None) -> list[str]:
    """transformers' own generation, batches padded on the left and sorted by length.

    choose: a logits processor.
    """

    class Stop(StoppingCriteria):
        def __init__(self, width: int):
            self._width = width

        def __call__(self, input_ids, scores, **options):
            answers = tokenizer.batch_decode(input_ids[:, self._width :])
            ended = [any(string in answer for string in stop) for answer in answers]
            return torch.tensor(ended, device=input_ids.device)

    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = len(prompts[batch[-1]])
        lengths = torch.tensor([[len(prompts[index])] for index in batch], device=model.device)
        ids = torch.tensor(
            [[0] * (width - len(prompts[index])) + list(prompts[index]) for index in batch],
            device=model.device,
        )
        generated = model.generate(
            ids,
            attention_mask=(torch.arange(width, device=model.device) >= width - lengths).long(),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            stopping_criteria=StoppingCriteriaList([Stop(width)]),
            logits_processor=[choose] if choose else None,
            pad_token_id=tokenizer.eos_token_id,
        )
        for index, ids in zip(batch, generated[:, width:].tolist(), strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            cuts = [cut for string in stop if (cut := text.find(string)) >= 0]
            texts[index] = text[: min(cuts, default=len(text))]
    return texts
