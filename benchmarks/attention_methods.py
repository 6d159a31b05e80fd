"""Weights of one layer under nine interventions: plain transformers, and ours."""

import sys
from functools import partial

import numpy as np
from attention_work import (
    CHANGES,
    changed,
    displayed_layer,
    eager_model,
    every_map,
    no_maps,
    save,
    token_ids,
    warm_up,
)
from measuring import measured, note


class Stop(Exception):  # noqa: N818 (nothing went wrong)
    """The pass has come as far as it is needed."""


def plain(task: dict, stop: bool = False) -> None:
    """A pass with output_attentions for each intervention; its attention function alters."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    model = eager_model(task)
    layer = displayed_layer(task, model.config.num_hidden_layers)
    eager = sys.modules[type(model).__module__].eager_attention_forward
    made: list = []  # the pass's change
    found: list = []  # its map, where it is stopped

    def attention(module, query, key, value, mask, **options):
        if module.layer_idx != layer:
            return eager(module, query, key, value, mask, **options)
        component, *change = made
        states = {"query": query, "key": key, "value": value}
        states[component] = changed(states[component], *change)
        output, weights = eager(module, *states.values(), mask, **options)
        if stop:
            found[:] = [weights[0].mean(dim=0)]
            raise Stop
        return output, weights

    AttentionInterface.register("intervened_eager", attention)
    AttentionMaskInterface.register("intervened_eager", eager_mask)
    model.set_attn_implementation("intervened_eager")

    def map_of(ids, *change):
        made[:] = change
        if not stop:
            seen = model(ids, use_cache=False, output_attentions=True).attentions
            return seen[layer][0].mean(dim=0)
        try:
            model(ids, use_cache=False)
        except Stop:
            return found.pop()
        raise RuntimeError(f"layer {layer} was not reached")

    texts = token_ids(task)
    work = partial(every_map, map_of=map_of, device=task["device"])
    save(task, measured(task, work, texts, warm_up(texts), len(texts)))


def stopped(task: dict) -> None:
    """The same, but what follows the layer's weights is not computed, and no others are kept."""
    plain(task, stop=True)


def ours(task: dict) -> None:
    """A pass a text for the layer's queries and keys; maps from these, equal ones once."""
    from limit import attention_operations, block_operations
    from made import load

    from llm_figures.attention.capture import capture_attention
    from llm_figures.models.loading import decoder_layers

    model, _ = load(task)
    layer = displayed_layer(task, len(decoder_layers(model)))

    def work(texts):
        maps = no_maps(texts)
        for index, ids in enumerate(texts):
            captured = capture_attention(model, ids, [layer])[layer]
            our_maps(captured.to_states(index + 1, layer), maps[:, index])
        return maps

    texts = token_ids(task)
    save(task, measured(task, work, texts, warm_up(texts), len(texts)))
    per_text = [
        block_operations(model, len(ids), layer) + attention_operations(model, len(ids), layer)
        for ids in texts
    ]
    note(task, operations=sum(per_text))


def our_maps(states, maps: np.ndarray) -> None:
    """Fill `maps` [interventions, queries, keys] of one text."""
    from llm_figures.attention.interventions import Intervention
    from llm_figures.attention.maps import bin_edges, compute_mean_map, find_equivalent

    edges = bin_edges(states.query.shape[1], None)
    known: dict[Intervention | None, int] = {}
    for number, (component, operation, epsilon) in enumerate(CHANGES):
        kind, _, over = operation.partition(" over ")
        change = find_equivalent(Intervention(component, kind, over=over or None, epsilon=epsilon))
        if change in known:
            maps[number] = maps[known[change]]
        else:
            maps[number] = compute_mean_map(states.intervene(change), edges)
            known[change] = number
