"""Hidden states at the named tokens of every answer, for the embeddings and every layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.inference.batching import batch_by_key, padded_length, with_oom_backoff
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.models.loading import context_length, decoder, decoder_layers, input_device
from llm_figures.probe.schema import layer_column

# What the families call the parts of a block.
PARTS = {
    "attention": ("self_attn", "attention", "attn", "self_attention"),
    "mlp": ("mlp", "feed_forward", "block_sparse_moe", "fc2"),  # OPT has no module around its two
}


@torch.inference_mode()
def hidden_states(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
    *,
    site: str = "residual",
    batch_size: int,
    prefix: Sequence[int] | None = None,
) -> Iterator[dict[str, Sequence | np.ndarray]]:
    """Yield the columns of `schema.hidden_states_schema` batch by batch.

    prompts, answers: token ids of each question's prompt and generated answer.
    positions: {named token: position in prompt + answer} of each question.
    site: "residual" (the stream after each block), or the output of each block's "attention" or
    "mlp" before it is added to the stream, and before the norm that Gemma and OLMo 2 put between.

    prefix: tokens with which every prompt begins, computed once; by default all that they share.

    Batches are padded on the right, where causal
    attention keeps the padding out of every position that is read. What is held at a time is one
    batch, whatever the number of questions; where CUDA runs out of memory, batches are halved.

    Raises:
        UserError: a state that is not finite; a block whose part is not found.
    """
    layers = decoder_layers(model)
    watched = [block if site == "residual" else _part(model, block, site) for block in layers]

    @contextmanager
    def collecting(rows: list[int], places: list[int], tokens: int):
        found: dict[int, np.ndarray] = {}

        def keep(layer, states):
            # [batch, tokens, hidden], or OPT's [batch * tokens, hidden], -> [named tokens, hidden]
            states = states.reshape(-1, tokens, states.shape[-1])
            found[layer] = states[rows, places].float().cpu().numpy()

        with _hooked(layers[0], watched, keep):
            yield found

    for columns, found in states_of_batches(
        model, question_ids, prompts, answers, positions, collecting, batch_size, prefix
    ):
        for layer, states in found.items():
            check_finite(f"layer {layer}", states, columns, model.dtype)
        yield columns | {layer_column(layer): states for layer, states in found.items()}


def states_of_batches(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
    collecting: Callable,
    batch_size: int,
    prefix: Sequence[int] | None = None,
) -> Iterator[tuple[dict[str, list], dict]]:
    """Pass prompts with their answers through the model; yield what is collected of each batch.

    collecting(rows, places, tokens): a context manager around the pass of one batch, which yields
    the dict that the pass fills; of the batch's tokens [sequences, tokens] those at (rows, places)
    are named, in the order of the columns question_id, token, position, which are yielded, too.

    For the other arguments see `hidden_states`.
    """
    if not prompts:
        return
    sequences = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    prefix = shared_prefix(prompts) if prefix is None else prefix
    cache = PrefixCache(model, prefix)
    room = context_length(model)
    widths = [padded_length(len(sequence), room) for sequence in sequences]

    def states_of(batch: list[int]) -> tuple[dict[str, list], dict]:
        longest = widths[batch[0]]
        ids = torch.tensor(
            [
                sequences[index][len(prefix) :] + [0] * (longest - len(sequences[index]))
                for index in batch
            ],
            device=input_device(model),
        )
        rows, names, places = [], [], []
        for row, index in enumerate(batch):
            for name, position in positions[index].items():
                rows.append(row)
                names.append(name)
                places.append(position - len(prefix))
        with collecting(rows, places, ids.shape[1]) as found:
            decoder(model)(
                input_ids=ids, past_key_values=cache.for_one_pass(len(batch)), use_cache=True
            )
        columns = {
            "question_id": [question_ids[batch[row]] for row in rows],
            "token": names,
            "position": [place + len(prefix) for place in places],
        }
        return columns, found

    for _, found in with_oom_backoff(batch_by_key(widths, batch_size), states_of):
        yield found


@contextmanager
def _hooked(
    first: torch.nn.Module,
    watched: Sequence[torch.nn.Module],
    keep: Callable[[int, torch.Tensor], None],
) -> Iterator[None]:
    """Call keep(layer, states [..., hidden]) during a forward pass; undone at the end.

    Layer 0 is what enters the block `first`, layer n what the n-th of `watched` gives.
    """
    handles = [
        first.register_forward_pre_hook(
            lambda module, args, kwargs: keep(0, args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        ),
        *(
            module.register_forward_hook(
                lambda module, args, output, layer=layer: keep(
                    layer, output[0] if isinstance(output, tuple) else output
                )
            )
            for layer, module in enumerate(watched, start=1)
        ),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _part(model: PreTrainedModel, block: torch.nn.Module, site: str) -> torch.nn.Module:
    for name in PARTS[site]:
        if isinstance(part := getattr(block, name, None), torch.nn.Module):
            return part
    raise UserError(
        f"config: probe.site: {site}: the blocks of models of type {model.config.model_type} have "
        "no such part under a known name; use residual"
    )


def check_finite(where: str, states: np.ndarray, columns: dict, dtype: torch.dtype) -> None:
    """Check states [named tokens, features] of one layer or module, named by `where`.

    Raises:
        UserError: a value that is not finite; names its question and token.
    """
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(
            f"{where} gives values that are not finite at {columns['token'][row]} of "
            f"question {columns['question_id'][row]}, computed in {str(dtype).split('.')[-1]}; "
            "set dtype to bfloat16 or float32, or check the weights"
        )
