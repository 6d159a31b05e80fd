"""Hidden states at the named tokens of every answer, for the embeddings and every layer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch.nn import Module
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.inference.batching import batch_by_key, padded_length, with_oom_backoff
from llm_figures.inference.finite_outputs import advise
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.models.loading import context_length, decoder, decoder_layers, input_device
from llm_figures.probe.head_outputs import find_head_outputs
from llm_figures.probe.schema import layer_column, list_layers

# The largest number that float16 holds; what is 16 or more above it would become infinite.
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
# Names that model families give to the two halves of a block.
SITE_MODULES = {
    "attention": ("self_attn", "attention", "attn", "self_attention"),
    "mlp": ("mlp", "feed_forward", "block_sparse_moe", "fc2"),  # OPT has no module around its two
    "mlp_input": ("mlp", "feed_forward", "block_sparse_moe", "fc1"),
}
# Sites that are the input of their modules; the others are outputs.
INPUTS = ("head", "mlp_input")
# The column `position` of a mean over several.
NO_POSITION = -1


@torch.inference_mode()
def extract_hidden_states(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int | range]],
    *,
    site: str = "residual",
    batch_size: int,
    prefix: Sequence[int] | None = None,
    states_dtype: str = "float32",
) -> Iterator[dict[str, Sequence | np.ndarray]]:
    """Yield the columns of `schema.make_hidden_states_schema`, batch by batch.

    prompts, answers: token ids of each question's prompt and generated answer.
    positions: {named token: position in prompt + answer} of each question; of several positions the
    mean is taken, in float32.
    site: "residual" (the residual stream after each block), or the output of each block's
    "attention" or "mlp" before it is added to the stream, and before the norm that Gemma and OLMo 2
    put in between; "mlp_input", the input of each block's MLP, after the norm before it; or "head",
    the outputs of the attention heads (see `head_outputs`), [heads, head size] for each token; a
    block without heads has no column then.
    prefix: tokens with which every prompt begins, computed once; by default all that they share.
    states_dtype: of the columns, "float32" or "float16".

    Batches are padded on the right, where causal attention keeps the padding out of every position
    that is read. One batch is in memory at a time, whatever the number of questions. Batches are
    halved when CUDA runs out of memory.

    Raises:
        UserError: a state that is not finite, or too large for states_dtype; a block without a
            known module for the site; blocks with several residual streams.
    """
    layers = decoder_layers(model)
    heads = find_head_outputs(model) if site == "head" else {}
    modules = {layer: found.module for layer, found in heads.items()}
    if site != "head":
        found = layers if site == "residual" else _find_site_modules(model, layers, site)
        modules = dict(enumerate(found, start=1))

    @contextmanager
    def record(rows: list[int], columns: list[int | range], tokens: int):
        states_of_layer: dict[int, np.ndarray] = {}

        def store(layer, states):
            states = _shape_states(model, states, tokens)
            states_of_layer[layer] = _take_states(states, rows, columns).cpu().numpy()

        with _hook_layers(layers[0], modules, store, inputs=site in INPUTS):
            yield states_of_layer

    for keys, states_of_layer in record_batches(
        model, question_ids, prompts, answers, positions, record, batch_size, prefix
    ):
        for layer, states in states_of_layer.items():
            check_finite(f"layer {layer}", states, keys, model.dtype)
            states = cast_states(f"layer {layer}", states, keys, states_dtype)
            if layer in heads:
                states = states.reshape(-1, heads[layer].count, heads[layer].size)
            states_of_layer[layer] = states
        yield keys | {layer_column(layer): states for layer, states in states_of_layer.items()}


def record_batches(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int | range]],
    record: Callable[[list[int], list[int | range], int], AbstractContextManager[dict]],
    batch_size: int,
    prefix: Sequence[int] | None = None,
) -> Iterator[tuple[dict[str, list], dict]]:
    """Run prompts with their answers through the model, and yield what is recorded of each batch.

    record(rows, columns, tokens): a context manager around the pass of one batch; it yields the
    dict that the pass fills. (rows, columns) index the named tokens in [sequences, tokens], tokens
    is the length of the second axis. A column is a range for a named token of several positions.

    Yields (keys, recorded): keys are the columns question_id, token and position of the named
    tokens, in the same order; the position of several is `NO_POSITION`. The other arguments are
    those of `extract_hidden_states`.
    """
    if not prompts:
        return
    prefix = shared_prefix(prompts) if prefix is None else prefix
    cache = PrefixCache(model, prefix)
    start = len(cache.prefix)
    context = context_length(model)
    widths = [
        padded_length(len(prompt) + len(answer), context)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]

    def run_batch(batch: list[int]) -> tuple[dict[str, list], dict]:
        width = widths[batch[0]]
        ids = torch.zeros((len(batch), width - start), dtype=torch.int64)
        for row, index in enumerate(batch):
            own = np.concatenate([prompts[index], answers[index]])[start:].astype(np.int64)
            ids[row, : len(own)] = torch.from_numpy(own)
        ids = ids.to(input_device(model))
        named = [
            (row, name, _shift(position, -start))
            for row, index in enumerate(batch)
            for name, position in positions[index].items()
        ]
        rows, columns = [row for row, _, _ in named], [column for _, _, column in named]
        with record(rows, columns, ids.shape[1]) as recorded:
            cache.for_one_pass(len(batch)).run(decoder(model), ids)
        keys = {
            "question_id": [question_ids[batch[row]] for row in rows],
            "token": [name for _, name, _ in named],
            "position": [
                NO_POSITION if isinstance(column, range) else column + start for column in columns
            ],
        }
        return keys, recorded

    for _, result in with_oom_backoff(batch_by_key(widths, batch_size), run_batch):
        yield result


def _shift(position: int | range, by: int) -> int | range:
    if isinstance(position, range):
        return range(position.start + by, position.stop + by)
    return position + by


def _take_states(
    states: torch.Tensor, rows: Sequence[int], columns: Sequence[int | range]
) -> torch.Tensor:
    """States [named tokens, hidden] in float32, of [sequences, tokens, hidden].

    Each mean is a sum of its own, so that it does not depend on the batch.
    """
    firsts = [column.start if isinstance(column, range) else column for column in columns]
    taken = states[rows, firsts].float()
    for at, (row, column) in enumerate(zip(rows, columns, strict=True)):
        if isinstance(column, range):
            taken[at] = states[row, column.start : column.stop].float().mean(dim=0)
    return taken


@contextmanager
def _hook_layers(
    first: torch.nn.Module,
    modules: Mapping[int, torch.nn.Module],
    store: Callable[[int, torch.Tensor], None],
    inputs: bool = False,
) -> Iterator[None]:
    """Call store(layer, states [..., hidden]) during forward passes inside the block.

    Layer 0 is the input of the block `first`, the others are the outputs of `modules`, or their
    inputs.
    """

    def hook_input(layer: int, module: Module) -> RemovableHandle:
        return module.register_forward_pre_hook(
            lambda module, args, kwargs: store(layer, args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )

    handles = [hook_input(0, first)]
    for layer, module in modules.items():
        if inputs:
            handle = hook_input(layer, module)
        else:
            handle = module.register_forward_hook(
                lambda module, args, output, layer=layer: store(
                    layer, output[0] if isinstance(output, tuple) else output
                )
            )
        handles.append(handle)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape_states(model: PreTrainedModel, states: torch.Tensor, tokens: int) -> torch.Tensor:
    """What a block or module passes on, as [batch, tokens, hidden].

    OPT's MLP has [batch * tokens, hidden], Gemma 3n's blocks [predictions, batch, tokens, hidden],
    of which the first enters the next block.
    """
    if states.ndim == 4 and states.shape[2] == tokens:
        states = states[0]
    if states.ndim == 4:
        raise UserError(
            f"config: probe.site: blocks of models of type {model.config.model_type} pass on "
            f"{states.shape[2]} residual streams, not one; use site: attention or site: mlp"
        )
    return states.reshape(-1, tokens, states.shape[-1])


def _find_site_modules(
    model: PreTrainedModel, blocks: Iterable[torch.nn.Module], site: str
) -> list[torch.nn.Module]:
    """The module of each block whose output the site is, or whose input."""
    names = SITE_MODULES[site]
    found = [
        next(
            (part for name in names if isinstance(part := getattr(block, name, None), Module)), None
        )
        for block in blocks
    ]
    if lacking := [layer for layer, module in enumerate(found) if module is None]:
        kind, known = model.config.model_type, ", ".join(names)
        what = (
            f"blocks of models of type {kind} have no module of a known name for it ({known})"
            if len(lacking) == len(found)
            else f"layer(s) {list_layers(lacking)} of this {kind} model have no {site} ({known})"
        )
        raise UserError(f"config: probe.site: {site}: {what}; use residual")
    return [module for module in found if module is not None]


def check_finite(where: str, states: np.ndarray, keys: dict, dtype: torch.dtype) -> None:
    """Check states [named tokens, features]. where: their layer or projection, for the message.

    Raises:
        UserError: a value that is not finite; names its question and token.
    """
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        kind = str(dtype).split(".")[-1]
        raise UserError(
            f"{where} gives values that are not finite at {keys['token'][row]} of "
            f"question {keys['question_id'][row]}, computed in {kind}; {advise(kind)}"
        )


def cast_states(where: str, states: np.ndarray, keys: dict, dtype: str) -> np.ndarray:
    """States [named tokens, features] as they are stored. where: as for `check_finite`.

    Raises:
        UserError: a value beyond float16's range; names its question and token.
    """
    if dtype == "float32":
        return states
    largest = np.abs(states).max(axis=1)
    if largest.max(initial=0) > LARGEST_FLOAT16:
        row = int(np.argmax(largest))
        raise UserError(
            f"config: states_dtype: float16: {where} has a value of {largest[row]:,.0f} at "
            f"{keys['token'][row]} of question {keys['question_id'][row]}, and float16 ends at "
            f"{LARGEST_FLOAT16:,.0f}; set states_dtype: float32"
        )
    return states.astype(dtype)
