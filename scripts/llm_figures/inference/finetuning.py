"""Fine-tuning on some of the built-in facts: a model whose learned facts are known.

Some questions of each group are trained, the others held out. A question has the same format as in
the probe, and the loss is on the answer's tokens alone. The prompts' common prefix goes through the
model once a step, with its gradient, so that a few minutes on a CPU are enough.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.core.job import log, progress
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.options import QuestionFormat
from llm_figures.inference.prefix_cache import has_plain_cache, shared_prefix
from llm_figures.inference.prompts import tokenize_questions, too_long
from llm_figures.models.loading import context_length, decoder, decoder_layers, input_device
from llm_figures.models.options import FinetunedModel
from llm_figures.models.projection_families import find_places
from llm_figures.models.projection_layouts import MLP, SHARED

# The largest norm of the gradient, and the share of the steps in which the learning rate rises.
CLIP = 1.0
WARM_UP = 0.1


@dataclass(frozen=True)
class Example:
    """Token ids of a question's prompt, and of its right answer with what ends an answer."""

    prompt: list[int]
    answer: list[int]


def split_facts(questions: pd.DataFrame, options: FinetunedModel) -> pd.DataFrame:
    """The questions of the chosen groups, each marked as trained or held out.

    questions: as from `questions.load_questions`, with an answer each. At least one question of
    each group is trained.

    Returns question, answer (a full sentence), group, trained; in the order of `questions`.
    """
    if options.groups is not None:
        questions = questions[questions["group"].isin(options.groups)]
    questions = questions.reset_index(drop=True)
    trained = np.zeros(len(questions), dtype=bool)
    for group, rows in questions.groupby("group").groups.items():
        generator = np.random.default_rng([options.seed, *group.encode()])
        count = max(1, round(options.share * len(rows)))
        trained[generator.permutation(np.asarray(rows))[:count]] = True
    sentences = [
        f"{frame} {aliases[0]}."
        for frame, aliases in zip(questions["frame"], questions["aliases"], strict=True)
    ]
    columns = {"answer": sentences, "group": questions["group"], "trained": trained}
    return pd.DataFrame({"question": questions["question"], **columns})


def build_examples(
    tokenizer: PreTrainedTokenizerBase,
    prompt: QuestionFormat,
    questions: Sequence[str],
    answers: Sequence[str],
    context: int | None = None,
) -> list[Example]:
    """Every question in the format of `prompt`, with its answer and what ends one.

    context: the longest sequence that the model takes, in tokens.

    Raises:
        UserError: a question that does not fit the context.
    """
    prompts = tokenize_questions(tokenizer, prompt, questions)
    stops = prompt.stop_strings()
    begin = "" if prompt.style == "chat" or prompt.template[-1:].isspace() else " "
    answer_ids = [
        tokenizer(begin + answer + "".join(stops[:1]), add_special_tokens=False)["input_ids"]
        for answer in answers
    ]
    if not stops and tokenizer.eos_token_id is not None:
        answer_ids = [[*ids, tokenizer.eos_token_id] for ids in answer_ids]
    examples = [Example(*ids) for ids in zip(prompts, answer_ids, strict=True)]
    for example in examples:
        if problem := too_long(example.prompt, len(example.answer), context):
            raise UserError(f"fine-tuning: {problem}; choose a shorter prompt.preamble")
    return examples


def select_parameters(model: PreTrainedModel, train: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name; tied ones once.

    train: all, or the projections of every block's attention or mlp (see `projection_layouts`).

    Raises:
        UserError: attention or mlp, with a model type whose projections are not known.
    """
    named = dict(model.named_parameters())
    if train == "all":
        return named
    config = model.config.get_text_config(decoder=True).to_dict()
    chosen = set()
    for layer, block in enumerate(decoder_layers(model)):
        own = {id(weights): name for name, weights in block.named_parameters()}
        layout = find_places(config, layer, own.values(), f"train: {train}")
        places = [
            place
            for projection, place in layout.items()
            if (projection in (*MLP, *SHARED)) == (train == "mlp")
        ]
        names = {name for place in places for name in (place.weight, place.bias)}
        chosen |= {key for key, name in own.items() if name in names}
    return {name: weights for name, weights in named.items() if id(weights) in chosen}


def find_learning_rate(step: int, options: FinetunedModel) -> float:
    """The learning rate of a step, from 0: it rises for a tenth of the steps, then falls to 0."""
    steps = options.steps
    rising = max(1, round(WARM_UP * steps))
    return options.learning_rate * min(
        (step + 1) / rising, (steps - step) / max(1, steps - rising + 1)
    )


def finetune(
    model: PreTrainedModel,
    examples: Sequence[Example],
    options: FinetunedModel,
    state: dict[str, torch.Tensor] | None = None,
) -> list[float]:
    """Train `model` in place with AdamW, without weight decay or dropout, the gradient clipped.

    Batches go through the examples in a seeded order, a new one each epoch. The steps are those of
    `options.span`, so that a training in parts gives the same weights, bit for bit, as one in a
    single part.

    state: of the optimizer after the last step so far, by name: the number of steps and both
        moments of every trained parameter. It is filled with that after the last step.

    Returns the loss of each step: the mean over its answers' tokens, in nats.

    Raises:
        UserError: a loss that is not finite.
    """
    parameters = select_parameters(model, options.train)
    for weights in model.parameters():
        weights.requires_grad_(False)
    for weights in parameters.values():
        weights.requires_grad_(True)
    # fused: weights and moments pass through memory once a step
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=options.learning_rate, weight_decay=0.0, fused=True
    )
    done, until = options.span
    if done:
        _load_state(optimizer, parameters, state or {})
    prefix = _find_prefix(model, examples)
    losses = []
    batches = _draw_batches(len(examples), until, options.batch_size, options.seed)
    for step, batch in enumerate(
        progress(islice(batches, done, None), "steps", total=until - done), start=done
    ):
        optimizer.param_groups[0]["lr"] = find_learning_rate(step, options)
        totals, counts = compute_losses(model, prefix, [examples[index] for index in batch])
        loss = totals.sum() / counts.sum()
        if not torch.isfinite(loss):
            raise UserError(
                f"fine-tuning: the loss of step {step + 1} is {loss.item()}; lower learning_rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    for weights in model.parameters():
        weights.requires_grad_(False)
    if state is not None:
        state.clear()
        for name, weights in parameters.items():
            for key, value in optimizer.state[weights].items():
                state[f"{key} {name}"] = value.detach().cpu()
    return losses


def _load_state(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, torch.nn.Parameter],
    state: dict[str, torch.Tensor],
) -> None:
    """Give the optimizer back what it knew of each parameter."""
    for key, value in state.items():
        kind, _, name = key.partition(" ")
        weights = parameters[name]
        optimizer.state[weights][kind] = value.to(weights.device)
    if absent := [name for name, weights in parameters.items() if not optimizer.state[weights]]:
        raise UserError(
            f"fine-tuning: the state of the earlier steps lacks {absent[0]}; remove "
            "training_state.safetensors of the checkpoint before"
        )


def _find_prefix(model: PreTrainedModel, examples: Sequence[Example]) -> list[int]:
    """The prefix that goes through the model once; none in a hybrid: its cache has no gradient."""
    if not has_plain_cache(model):
        return []
    return shared_prefix([example.prompt for example in examples])


def compute_losses(
    model: PreTrainedModel, prefix: Sequence[int], batch: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each answer's loss, summed over its tokens, in nats [batch], and its tokens [batch].

    prefix: common to all prompts; it goes through the model once, and its gradient with it.
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
def mean_losses(
    model: PreTrainedModel, examples: Sequence[Example], batch_size: int
) -> list[float]:
    """Mean loss over the tokens of each example's answer, in nats.

    Raises:
        UserError: a loss that is not finite.
    """
    prefix = _find_prefix(model, examples)
    means: list[float] = []
    for start in range(0, len(examples), batch_size):
        totals, counts = compute_losses(model, prefix, examples[start : start + batch_size])
        means += (totals / counts).tolist()
    check_logits(model, means, lambda index: f"in the answer to fact {index + 1}")
    return means


def _draw_batches(count: int, steps: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Indices of each step's examples; every example comes once before any comes again."""
    generator, waiting = np.random.default_rng(seed), np.empty(0, dtype=int)
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, generator.permutation(count)])
        yield waiting[:batch_size].tolist()
        waiting = waiting[batch_size:]


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a transformers folder with all weights in one safetensors file."""
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="1000GB")


def replace_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, weights: Path
) -> None:
    """Write a transformers folder whose files appear only when they are complete, the weights last.

    Without weights the folder is not taken for a model.
    """
    folder = weights.parent
    folder.mkdir(parents=True, exist_ok=True)
    for remnant in folder.glob(".model.*"):  # of a run that was killed
        shutil.rmtree(remnant, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as work:
        save_model(model, tokenizer, Path(work))
        for path in sorted(Path(work).iterdir(), key=lambda path: path.name == weights.name):
            shutil.move(path, folder / path.name)


def finetune_on_facts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: pd.DataFrame,
    prompt: QuestionFormat,
    options: FinetunedModel,
    earlier: pd.DataFrame | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> tuple[pd.DataFrame, list[float]]:
    """Train the model on those of `facts` (see `split_facts`) that are marked as trained.

    earlier: the table of the part of the training before this one, which has the losses before all
    steps. state: see `finetune`.

    Returns the table with loss_before and loss_after (nats, mean over the answer's tokens), and the
    loss of each step. As many held-out facts are measured as are trained; the losses of the others
    are missing.

    Raises:
        UserError: as `build_examples` and `finetune`.
    """
    measured = _select_measured(facts, options.seed)
    examples = build_examples(
        tokenizer,
        prompt,
        facts["question"][measured].tolist(),
        facts["answer"][measured].tolist(),
        context_length(model),
    )
    training = [
        example
        for example, is_trained in zip(examples, facts["trained"][measured], strict=True)
        if is_trained
    ]
    log.info("%d of %d facts are trained, the others held out", len(training), len(facts))
    batch_size = 4 * options.batch_size  # without gradients there is room for more
    facts = facts.assign(loss_before=np.nan, loss_after=np.nan)
    if earlier is None:
        facts.loc[measured, "loss_before"] = mean_losses(model, examples, batch_size)
    else:
        before = earlier.set_index("question")["loss_before"]
        facts["loss_before"] = before.reindex(facts["question"]).to_numpy()
    losses = finetune(model, training, options, state)
    facts.loc[measured, "loss_after"] = mean_losses(model, examples, batch_size)
    for is_trained, rows in facts[measured].groupby("trained", sort=False):
        log.info(
            "loss of %d %s facts: %.3f before, %.3f after",
            len(rows),
            "trained" if is_trained else "held-out",
            rows["loss_before"].mean(),
            rows["loss_after"].mean(),
        )
    return facts, losses


def _select_measured(facts: pd.DataFrame, seed: int) -> pd.Series:
    """A mask of the facts whose loss is measured: the trained ones, and as many held-out ones."""
    held_out = np.flatnonzero(~facts["trained"])
    count = min(len(held_out), int(facts["trained"].sum()))
    chosen = facts["trained"].to_numpy(copy=True)
    chosen[np.random.default_rng([seed, 1]).permutation(held_out)[:count]] = True
    return pd.Series(chosen, index=facts.index)
