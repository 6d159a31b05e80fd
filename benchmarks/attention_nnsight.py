"""Weights of one layer under nine interventions: nnsight, in an environment of its own."""

from functools import partial

from attention_work import (
    changed,
    displayed_layer,
    eager_model,
    every_map,
    save,
    token_ids,
    warm_up,
)
from measuring import measured
from nnsight import NNsight

# Where the attention function's arguments are, after the module itself.
PLACES = {"query": 1, "key": 2, "value": 3}


def whole(task: dict, stop: bool = False) -> None:
    """A trace for each intervention on the arguments of the layer's attention function."""
    loaded = eager_model(task)
    model = NNsight(loaded)
    attention = model.model.layers[displayed_layer(task, loaded.config.num_hidden_layers)].self_attn

    def map_of(ids, component, operation, epsilon):
        place = PLACES[component]
        with model.trace(ids, use_cache=False) as tracer:
            call = attention.source.attention_interface_1
            given, options = call.inputs
            made = changed(given[place], operation, epsilon)
            call.inputs = ((*given[:place], made, *given[place + 1 :]), options)
            found = call.output[1][0].mean(dim=0).save()
            if stop:
                tracer.stop()
        return found

    texts = token_ids(task)
    work = partial(every_map, map_of=map_of, device=task["device"])
    save(task, measured(task, work, texts, warm_up(texts), len(texts)))


def stopped(task: dict) -> None:
    """The same, stopped when the layer's weights are there."""
    whole(task, stop=True)
