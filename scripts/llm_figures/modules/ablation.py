"""What a projection is worth: the model's predictions when its output is replaced by its mean."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.models.loading import decoder, decoder_layers, input_device
from llm_figures.models.projections import Application, projections, watched

# Bytes of logits in one pass over several altered copies of a text.
LOGIT_BYTES = 2**29

Key = tuple[int, str, int | None]


@torch.inference_mode()
def ablation_effects(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], report: Callable = iter
) -> pd.DataFrame:
    """Mean ablation of every projection by itself, in every layer.

    texts: token ids of the calibration texts, over all of whose tokens the mean output is taken
        (per expert, over the tokens routed to it) and on which the effect is measured.
    report: wraps the texts, to tell of progress.

    One row per text × layer × module: `loss_rise`, nats per predicted token, of the mean next-token
    cross-entropy −log p(next token); `kl`, nats per position, of the mean KL divergence
    KL(clean ‖ altered) of the predicted distributions; `predicted` and `positions`, how many
    there are.

    The blocks before the altered one give what they gave in the clean pass, so they are not run
    again, and all projections of a block are altered in copies of the text in one pass.

    Raises:
        UserError: the family keeps its projections in a place that is not known.
    """
    means = _mean_outputs(model, texts)
    named: dict[int, list[str]] = {}
    for projection in projections(model):
        named.setdefault(projection.layer, []).append(projection.name)
    rows = []
    for index, text in enumerate(report(texts), start=1):
        ids = torch.tensor([list(text)], device=input_device(model))
        entering, logits = _unaltered_pass(model, ids)
        before = _log_probabilities(logits[0])
        for layer, names in named.items():
            for some in _chunks(names, LOGIT_BYTES // (logits[0].numel() * 4)):
                changed = _altered_pass(model, ids, layer, some, means, entering)
                for name, intervened in zip(some, changed, strict=True):
                    loss_rise, kl = _effect(before, _log_probabilities(intervened), ids[0])
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
    """{(layer, module, expert): mean output with any bias, [d_out]}, over all tokens."""
    sums: dict[Key, torch.Tensor] = {}
    counts: dict[Key, int] = {}

    def add(seen: Application) -> None:
        key = (seen.projection.layer, seen.projection.name, seen.expert)
        # On the CPU: not every device sums in double precision.
        total = seen.outputs.cpu().double().sum(dim=0)
        sums[key] = sums[key] + total if key in sums else total
        counts[key] = counts.get(key, 0) + len(seen.outputs)

    with watched(model, add):
        for text in texts:
            decoder(model)(
                input_ids=torch.tensor([list(text)], device=input_device(model)), use_cache=False
            )
    return {key: total / counts[key] for key, total in sums.items()}


def _unaltered_pass(
    model: PreTrainedModel, ids: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What enters every block, [1, tokens, hidden] each, and the logits [1, tokens, vocabulary].

    Experts run here as in the altered passes, so that both round alike.
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
        with watched(model, lambda seen: None):
            logits = model(input_ids=ids, use_cache=False).logits
    return entering, logits


def _altered_pass(
    model: PreTrainedModel,
    ids: torch.Tensor,
    layer: int,
    names: Sequence[str],
    means: dict[Key, torch.Tensor],
    entering: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Logits [names, tokens, vocabulary] with the output of one projection of `layer` replaced."""
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

    with _started_at(model, layer, entering[layer]), watched(model, replace, [layer]):
        return model(input_ids=ids.expand(len(names), -1), use_cache=False).logits


@contextmanager
def _started_at(model: PreTrainedModel, layer: int, states: torch.Tensor) -> Iterator[None]:
    """Forward passes that begin with `states` [1, tokens, hidden] in front of block `layer`."""
    blocks = decoder_layers(model)

    def enter(module, args, kwargs):
        given = states.expand(_states(args, kwargs).shape)
        if args:
            return (given, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": given}

    with ExitStack() as undo:
        for block in blocks[:layer]:
            block.forward = _pass_through(block)
            undo.callback(delattr, block, "forward")
        handle = blocks[layer].register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        undo.callback(handle.remove)
        yield


def _pass_through(block: torch.nn.Module) -> Callable:
    def forward(*args, **kwargs):
        return _states(args, kwargs)

    return forward


def _states(args: tuple, kwargs: dict) -> torch.Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """[tokens, vocabulary], in float32: right to about 1e-6 nats, where effects are 1e-3 and more.

    Double precision would take longer than the passes themselves where the vocabulary is large.
    """
    return logits.float().log_softmax(dim=-1)


def _effect(before: torch.Tensor, after: torch.Tensor, ids: torch.Tensor) -> tuple[float, float]:
    """Rise of the mean loss and mean KL divergence of one text, in nats."""
    following = ids[1:, None].to(before.device)
    loss_rise = (before[:-1].gather(1, following) - after[:-1].gather(1, following)).mean()
    kl = (before.exp() * (before - after)).sum(dim=-1).mean()
    return loss_rise.item(), kl.item()


def _chunks(names: list[str], most: int) -> Iterator[list[str]]:
    step = max(1, most)
    for start in range(0, len(names), step):
        yield names[start : start + step]
