"""A model taught some of the built-in facts: what its weights and states then show is known.

Some questions of each group are trained, the others held out. A question is asked exactly as the
probe's questions are, and the loss is on the answer's tokens alone. The prompts' shared beginning
goes through the model once a step, with its gradient, so that a few minutes on a CPU are enough.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.core.job import log, progress
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import question_ids, stop_strings, too_long
from llm_figures.models.loading import context_length, decoder, decoder_layers, input_device
from llm_figures.models.projection_layouts import ATTENTION, MLP, find_places

# Of the gradient's norm; and the share of the steps in which the learning rate rises to its full
# height, from where it falls to zero.
CLIP = 1.0
WARM_UP = 0.1


@dataclass(frozen=True)
class Example:
    """Token ids of a question as it is asked, and of its right answer up to where it stops."""

    prompt: list[int]
    answer: list[int]


def taught_questions(
    questions: pd.DataFrame, groups: Sequence[str] | None, share: float, seed: int
) -> pd.DataFrame:
    """The built-in questions of the groups, and which of them are trained.

    questions: as from `questions.load_questions`, with an answer each. groups: None takes all.
    share: of each group's questions, at least one of them is trained.

    Returns question, answer (a full sentence), group, trained; in the order of `questions`.
    """
    asked = questions if groups is None else questions[questions["group"].isin(groups)]
    asked = asked.reset_index(drop=True)
    trained = np.zeros(len(asked), dtype=bool)
    for group, rows in asked.groupby("group").groups.items():
        draws = np.random.default_rng([seed, *group.encode()])
        count = max(1, round(share * len(rows)))
        trained[draws.permutation(np.asarray(rows))[:count]] = True
    sentences = [
        f"{frame} {aliases[0]}."
        for frame, aliases in zip(asked["frame"], asked["aliases"], strict=True)
    ]
    return pd.DataFrame(
        {
            "question": asked["question"],
            "answer": sentences,
            "group": asked["group"],
            "trained": trained,
        }
    )


def examples(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Mapping,
    questions: Sequence[str],
    answers: Sequence[str],
    longest: int | None = None,
) -> list[Example]:
    """Every question as the config's `prompt` asks it, with its answer and what ends one.

    longest: the model's context, in tokens.

    Raises:
        UserError: a question that does not fit the context.
    """
    prompts = question_ids(tokenizer, prompt, questions)
    stops = stop_strings(prompt)
    begin = "" if prompt["style"] == "chat" or prompt["template"][-1:].isspace() else " "
    said = [
        tokenizer(begin + answer + "".join(stops[:1]), add_special_tokens=False)["input_ids"]
        for answer in answers
    ]
    if not stops and tokenizer.eos_token_id is not None:
        said = [[*ids, tokenizer.eos_token_id] for ids in said]
    for ids, answer in zip(prompts, said, strict=True):
        if problem := too_long(ids, len(answer), longest):
            raise UserError(f"fine-tuning: {problem}; choose a shorter prompt.preamble")
    return [Example(ids, answer) for ids, answer in zip(prompts, said, strict=True)]


def trained_parameters(model: PreTrainedModel, train: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name; tied ones once.

    train: all, or the projections of every block's attention or mlp (see `families`).

    Raises:
        UserError: attention or mlp, with a family whose projections are not known.
    """
    named = dict(model.named_parameters())
    if train == "all":
        return named
    columns = ATTENTION if train == "attention" else MLP
    chosen = set()
    for block in decoder_layers(model):
        own = {id(weights): name for name, weights in block.named_parameters()}
        found = find_places(model.config.model_type, own.values(), f"train: {train}")
        names = {n for c in columns if c in found for n in (found[c].weight, found[c].bias)}
        chosen |= {key for key, name in own.items() if name in names}
    return {name: weights for name, weights in named.items() if id(weights) in chosen}


def finetune(
    model: PreTrainedModel,
    taught: Sequence[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    train: str = "all",
) -> list[float]:
    """Train `model` in place with AdamW, without weight decay or dropout, the gradient clipped.

    Batches go through the examples in a seeded order, a new one each time round. The learning rate
    rises for a tenth of the steps and falls to zero in the rest.

    Returns each step's loss: the mean over its answers' tokens, in nats.

    Raises:
        UserError: a loss that is no number.
    """
    parameters = trained_parameters(model, train)
    for weights in model.parameters():
        weights.requires_grad_(False)
    for weights in parameters.values():
        weights.requires_grad_(True)
    # fused: weights and moments pass through memory once a step
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=learning_rate, weight_decay=0.0, fused=True
    )
    rising = max(1, round(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising + 1)),
    )
    prefix = shared_prefix([example.prompt for example in taught])
    losses = []
    for batch in progress(_batches(len(taught), steps, batch_size, seed), "steps", total=steps):
        totals, counts = answer_losses(model, prefix, [taught[index] for index in batch])
        loss = totals.sum() / counts.sum()
        if not torch.isfinite(loss):
            raise UserError(
                f"fine-tuning: the loss of step {len(losses) + 1} is {loss.item()}; "
                "lower learning_rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
    for weights in model.parameters():
        weights.requires_grad_(False)
    return losses


def answer_losses(
    model: PreTrainedModel, prefix: Sequence[int], batch: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each example's answer, summed over its tokens [batch], in nats, and how many.

    prefix: what all prompts begin with; it goes through the model once, and its gradient with it.
    """
    device, start = input_device(model), len(prefix)
    cache = DynamicCache(config=model.config)
    if prefix:
        ids = torch.tensor([list(prefix)], device=device)
        decoder(model)(input_ids=ids, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(batch))
    # the answer's last token is predicted, and predicts nothing
    rows = [[*example.prompt[start:], *example.answer[:-1]] for example in batch]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor(
        [[1] * (start + len(row)) + [0] * (width - len(row)) for row in rows], device=device
    )
    targets = torch.full((len(batch), width), -100, device=device)
    for row, example in enumerate(batch):
        first = len(example.prompt) - start - 1
        targets[row, first : first + len(example.answer)] = torch.tensor(example.answer)
    logits = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True).logits
    of_answers = targets >= 0
    counts = of_answers.sum(dim=1)
    losses = torch.nn.functional.cross_entropy(
        logits[of_answers].float(), targets[of_answers], reduction="none"
    )
    return torch.stack([part.sum() for part in losses.split(counts.tolist())]), counts


@torch.inference_mode()
def mean_losses(model: PreTrainedModel, asked: Sequence[Example], batch_size: int) -> list[float]:
    """Mean loss over the tokens of each example's answer, in nats."""
    prefix = shared_prefix([example.prompt for example in asked])
    found: list[float] = []
    for start in range(0, len(asked), batch_size):
        totals, counts = answer_losses(model, prefix, asked[start : start + batch_size])
        found += (totals / counts).tolist()
    return found


def _batches(count: int, steps: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Indices of each step's examples; every example comes once before any comes again."""
    draws, waiting = np.random.default_rng(seed), np.empty(0, dtype=int)
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, draws.permutation(count)])
        yield waiting[:batch_size].tolist()
        waiting = waiting[batch_size:]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a transformers folder with all weights in one safetensors file."""
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="1000GB")


def finetuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    table: pd.DataFrame,
    prompt: Mapping,
    options: Mapping,
) -> tuple[pd.DataFrame, list[float]]:
    """Train the model on the rows of `table` (see `taught_questions`) that are to be trained.

    options: steps, batch_size, learning_rate, seed, train.

    Returns the table with loss_before and loss_after (nats, mean over the answer's tokens), and
    each step's loss. Of the held-out facts as many are measured as are trained; the losses of the
    others are missing.

    Raises:
        UserError: as `examples` and `finetune`.
    """
    measured = _measured(table, options["seed"])
    asked = examples(
        tokenizer,
        prompt,
        table["question"][measured].tolist(),
        table["answer"][measured].tolist(),
        context_length(model),
    )
    trained = table["trained"][measured]
    taught = [one for one, is_trained in zip(asked, trained, strict=True) if is_trained]
    log.info("%d of %d facts are trained, the others held out", len(taught), len(table))
    size = 4 * options["batch_size"]  # without gradients there is room for more
    table = table.assign(loss_before=np.nan, loss_after=np.nan)
    table.loc[measured, "loss_before"] = mean_losses(model, asked, size)
    losses = finetune(model, taught, **options)
    table.loc[measured, "loss_after"] = mean_losses(model, asked, size)
    for is_trained, rows in table[measured].groupby("trained", sort=False):
        log.info(
            "loss of %d %s facts: %.3f before, %.3f after",
            len(rows),
            "trained" if is_trained else "held-out",
            rows["loss_before"].mean(),
            rows["loss_after"].mean(),
        )
    return table, losses


def _measured(table: pd.DataFrame, seed: int) -> pd.Series:
    """Whose loss is measured: the trained facts, and as many of the held-out ones (a mask)."""
    held_out = np.flatnonzero(~table["trained"])
    count = min(len(held_out), int(table["trained"].sum()))
    chosen = table["trained"].to_numpy(copy=True)
    chosen[np.random.default_rng([seed, 1]).permutation(held_out)[:count]] = True
    return pd.Series(chosen, index=table.index)
