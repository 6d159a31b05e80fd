"""Mean ablation of single projections."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.inference.finite_outputs import check_logits, check_outputs
from llm_figures.models.loading import decoder, decoder_layers, input_device
from llm_figures.models.projections import Application, find_projections, watch_projections

# Bytes of logits in one pass over several copies of a text.
LOGIT_BYTES = 2**29

Key = tuple[int, str, int | None]


@torch.inference_mode()
def measure_ablation(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], report: Callable = iter
) -> pd.DataFrame:
    """Ablate every projection of every layer by itself and measure the effect on the predictions.

    Its output is replaced by the mean over all tokens of the texts, for an expert over the tokens
    that are routed to it.

    texts: token ids of each text. report: wraps the texts to report progress.

    Returns one row per text × layer × projection: `loss_rise`, the rise of the mean next-token
    cross-entropy −log p(next token), in nats per predicted token; `kl`, the mean divergence
    KL(clean ‖ ablated) of the predicted distributions, in nats per position; `predicted` and
    `positions`, the numbers of both.

    The blocks before the ablated one give the same as in the clean pass, so they are not run again,
    unless later ones take more from them than their output (see `_starts_anywhere`).
    All projections of a block are ablated in one pass over copies of the text.

    Raises:
        UserError: the family keeps its projections in an unknown place; logits are not finite.
    """
    means = _mean_outputs(model, texts)
    names_of_layers: dict[int, list[str]] = {}
    for projection in find_projections(model):
        names_of_layers.setdefault(projection.layer, []).append(projection.name)
    rows = []
    skipping = True
    for index, text in enumerate(report(texts), start=1):
        ids = torch.tensor([list(text)], device=input_device(model))
        entering, logits = _clean_pass(model, ids)
        clean = _log_probabilities(logits[0])
        check_logits(
            model,
            clean.amax(dim=-1).tolist(),
            lambda token, index=index: f"at token {token + 1} of text {index}",
        )
        if index == 1 and not _starts_anywhere(model, ids, entering, logits):
            skipping = False
        copies = max(1, LOGIT_BYTES // (logits[0].numel() * 4))
        for layer, names in names_of_layers.items():
            for start in range(0, len(names), copies):
                chunk = names[start : start + copies]
                ablated = _ablated_pass(
                    model, ids, layer, chunk, means, entering if skipping else None
                )
                for name, logits_of_copy in zip(chunk, ablated, strict=True):
                    loss_rise, kl = _effect(clean, _log_probabilities(logits_of_copy), ids[0])
                    where = f"on text {index} with {name} of layer {layer} ablated"
                    check_logits(model, [loss_rise + kl], lambda _, where=where: where)
                    rows.append(
                        {
                            "text": index,
                            "layer": layer,
                            "projection": name,
                            "predicted": len(text) - 1,
                            "positions": len(text),
                            "loss_rise": loss_rise,
                            "kl": kl,
                        }
                    )
    return pd.DataFrame(rows)


def _mean_outputs(
    model: PreTrainedModel, texts: Sequence[Sequence[int]]
) -> dict[Key, torch.Tensor]:
    """{(layer, projection, expert): mean output over all tokens, with any bias, [d_out]}."""
    sums: dict[Key, torch.Tensor] = {}
    counts: dict[Key, int] = {}

    def add(seen: Application) -> None:
        key = (seen.projection.layer, seen.projection.name, seen.expert)
        # on the CPU: not every device sums in double precision
        total = seen.outputs.cpu().double().sum(dim=0)
        sums[key] = sums[key] + total if key in sums else total
        counts[key] = counts.get(key, 0) + len(seen.outputs)

    with watch_projections(model, add):
        for text in texts:
            decoder(model)(
                input_ids=torch.tensor([list(text)], device=input_device(model)), use_cache=False
            )
    for (layer, name, _), total in sums.items():  # in the order in which they are applied
        where = f"values that are not finite in layer {layer}, {name}"
        check_outputs(model, [total.sum().item()], lambda _, where=where: where)
    return {key: total / counts[key] for key, total in sums.items()}


def _clean_pass(
    model: PreTrainedModel, ids: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The input of every block [1, tokens, hidden], and the logits [1, tokens, vocabulary].

    Experts run one by one, as in the ablated passes, so that both round alike.
    """
    entering: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for block in decoder_layers(model):
            hooks.callback(
                block.register_forward_pre_hook(
                    lambda module, args, kwargs: entering.append(_states(args, kwargs)),
                    with_kwargs=True,
                ).remove
            )
        with watch_projections(model, lambda seen: None):
            logits = model(input_ids=ids, use_cache=False).logits
    return entering, logits


def _ablated_pass(
    model: PreTrainedModel,
    ids: torch.Tensor,
    layer: int,
    names: Sequence[str],
    means: dict[Key, torch.Tensor],
    entering: Sequence[torch.Tensor] | None,
) -> torch.Tensor:
    """Logits [names, tokens, vocabulary], each with one projection of `layer` ablated.

    entering: the inputs of all blocks, to skip those before `layer`; None runs all.
    """
    tokens = ids.shape[1]

    def replace(seen: Application) -> torch.Tensor | None:
        if seen.projection.name not in names:
            return None
        copy = names.index(seen.projection.name)
        inside = seen.tokens // tokens == copy
        mean = means.get((layer, seen.projection.name, seen.expert))
        if mean is None or not inside.any():
            return None
        outputs = seen.outputs.clone()
        outputs[inside] = mean.to(outputs)
        return outputs

    with ExitStack() as stack:
        if entering is not None:
            stack.enter_context(_start_at(model, layer, entering[layer]))
        stack.enter_context(watch_projections(model, replace, [layer]))
        return model(input_ids=ids.expand(len(names), -1), use_cache=False).logits


def _starts_anywhere(
    model: PreTrainedModel,
    ids: torch.Tensor,
    entering: Sequence[torch.Tensor],
    logits: torch.Tensor,
) -> bool:
    """Whether passes that begin at a block give the logits of a whole pass, for every block.

    Not so where blocks use keys and values of earlier ones, or return more than their output.
    """
    for layer, states in enumerate(entering):
        try:
            with _start_at(model, layer, states), watch_projections(model, lambda seen: None):
                begun = model(input_ids=ids, use_cache=False).logits
        except Exception:  # what a block misses raises errors of any class
            return False
        if begun.shape != logits.shape or not torch.allclose(begun, logits, rtol=1e-3, atol=1e-3):
            return False
    return True


@contextmanager
def _start_at(model: PreTrainedModel, layer: int, states: torch.Tensor) -> Iterator[None]:
    """Let forward passes begin with `states` [1, tokens, hidden] before block `layer`."""
    blocks = decoder_layers(model)

    def enter(module, args, kwargs):
        copies = states.expand(_states(args, kwargs).shape)
        if args:
            return (copies, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": copies}

    with ExitStack() as undo:
        for block in blocks[:layer]:
            block.forward = _return_states
            undo.callback(delattr, block, "forward")
        handle = blocks[layer].register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        undo.callback(handle.remove)
        yield


def _return_states(*args, **kwargs) -> torch.Tensor:
    """The forward pass of a block that is skipped."""
    return _states(args, kwargs)


def _states(args: tuple, kwargs: dict) -> torch.Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """[tokens, vocabulary] in float32, whose error is about 1e-6 nats; effects are 1e-3 and more.

    With a large vocabulary, double precision would take longer than the passes themselves.
    """
    return logits.float().log_softmax(dim=-1)


def _effect(clean: torch.Tensor, ablated: torch.Tensor, ids: torch.Tensor) -> tuple[float, float]:
    """Rise of the mean loss, and mean KL divergence, of one text in nats.

    clean, ablated: log-probabilities [tokens, vocabulary].
    """
    following = ids[1:, None].to(clean.device)
    loss_rise = (clean[:-1].gather(1, following) - ablated[:-1].gather(1, following)).mean()
    terms = clean.exp() * (clean - ablated)
    kl = terms.sum(dim=-1).mean()
    if kl.isnan():  # entries of the vocabulary that the model excludes, with a logit of -inf
        kl = terms.where(clean > -torch.inf, 0.0).sum(dim=-1).mean()
    return loss_rise.item(), kl.item()
