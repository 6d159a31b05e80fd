"""The tidy cells of an attention figure, from cached states alone."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import (
    BINS,
    BinnedMap,
    LayerStates,
    bin_edges,
    equal_change,
    mean_map,
    strongest_head,
    strongest_layer,
    unknown_rotation,
)
from llm_figures.attention.qk_store import StoredStates
from llm_figures.core.errors import UserError

States = LayerStates | StoredStates
# States from passes with a change in every layer, by layer, input and intervention.
Altered = Mapping[tuple[int, int, Intervention], States]


def panels(options: dict, inputs: int) -> list[tuple[int, int, int, Intervention]]:
    """The figure's panels: (row, column, input, intervention), row and column from 0.

    mean: rows are inputs, columns components. scale: rows are components, columns epsilons, all
    of the one input of the options. Inputs count from 1.
    """
    components, stage = options["components"], options["stage"]
    if options["operation"] == "mean":
        return [
            (
                row,
                column,
                row + 1,
                Intervention(component, "mean", over=options["over"], stage=stage),
            )
            for row in range(inputs)
            for column, component in enumerate(components)
        ]
    return [
        (
            row,
            column,
            options["input"],
            Intervention(component, "scale", epsilon=epsilon, stage=stage),
        )
        for row, component in enumerate(components)
        for column, epsilon in enumerate(options["epsilon"])
    ]


def shape_of_states(states: Sequence[States]) -> dict[str, int]:
    """The model's number of layers and of heads, from the states of every layer."""
    return {"layers": 1 + max(state.layer for state in states), "heads": states[0].heads}


def shown_layer(options: dict, clean: Sequence[States]) -> int:
    """The layer of the options; `auto` is the one with the strongest sink, clean."""
    layer = options["layer"]
    return strongest_layer(clean) if layer == "auto" else layer


def shown_head(options: dict, clean: Sequence[States], layer: int) -> int | None:
    """The head of the options, None for the mean; `auto` has the strongest sink, clean."""
    head = options["head"]
    if head == "auto":
        return strongest_head([states for states in clean if states.layer == layer])
    return None if head == "mean" else head


def panel_maps(
    options: dict,
    clean: Sequence[States],
    intervened: Altered | None,
    layer: int,
    head: int | None,
) -> Iterator[tuple[int, int, int, Intervention, np.ndarray | BinnedMap]]:
    """The figure's panels with their maps: (row, column, input, intervention, map).

    Arguments as in `attention_cells`; head None is the mean over heads. A map is [tokens, tokens],
    or binned where the text is long (see `text_bins`).
    """
    by_input = {states.input: states for states in clean if states.layer == layer}
    known: dict[tuple[int, Intervention | None], np.ndarray | BinnedMap] = {}
    for row, column, index, intervention in panels(options, len(by_input)):
        change = equal_change(intervention) if intervened is None else intervention
        key = (index, change)
        if key not in known:
            if intervened is None:
                states = by_input[index].loaded().intervened(change)
            else:
                states = intervened[layer, index, intervention].loaded()
            if head is not None:
                states = states.head(head)
            edges = text_bins(options, states)
            known[key] = shown = mean_map(states, edges)
            if len(shown) < edges[-1]:
                known[key] = BinnedMap(shown, np.diff(edges))
        yield row, column, index, intervention, known[key]


def text_bins(options: dict, states: LayerStates) -> np.ndarray:
    """Where the bins begin in which a text is shown; see `maps.bin_edges`."""
    return bin_edges(states.query.shape[1], options.get("bins", BINS))


def check_stage(figure: str, options: dict, clean: Sequence[States]) -> None:
    """Check that every changed layer's rotary embedding is known where the options need it.

    Raises:
        UserError: a change of Query or Key before rotary embedding in a layer without one, or
            whose own cannot be observed.
    """
    if not any(made.unrotates for *_, made in panels(options, inputs=1)):
        return
    everywhere = options["scope"] == "model"
    shown = shown_layer(options, clean)
    for states in clean:
        if not states.rotated and (everywhere or states.layer == shown):
            raise UserError(
                f"config: figures.{figure}.stage: before_rotary: {unknown_rotation(states.layer)}"
            )


def attention_cells(
    figure: str,
    options: dict,
    clean: Sequence[States],
    intervened: Altered | None = None,
) -> pd.DataFrame:
    """One row per cell of every panel: the weight of `query_position` on `key_position`.

    A text of more than `bins` tokens is shown in bins of them: positions are then the first of a
    bin, counts the tokens in it (1 in a short text), and a weight is the mean over the bin's
    queries of what they give to all of its keys. Tokens are those of the positions.

    clean: every layer's states of every input.
    altered: for scope model, among others the shown layer's; for scope layer the change is made
        here.

    Raises:
        UserError: see `check_stage`.
    """
    check_stage(figure, options, clean)
    layer = shown_layer(options, clean)
    head = shown_head(options, clean, layer)
    texts = {
        states.input: (states.tokens, text_bins(options, states))
        for stored in clean
        if stored.layer == layer
        for states in [stored.loaded()]
    }
    frames = []
    maps = panel_maps(options, clean, intervened, layer, head)
    for row, column, index, intervention, shown in maps:
        if isinstance(shown, BinnedMap):
            shown = shown.weights
        tokens, edges = texts[index]
        counts, named = np.diff(edges), np.array(tokens or [""] * edges[-1], dtype=object)
        query, key = np.indices(shown.shape)
        frames.append(
            pd.DataFrame(
                {
                    "figure": figure,
                    "panel_row": row,
                    "panel_column": column,
                    "input": index,
                    "component": intervention.component,
                    "operation": intervention.operation,
                    "over": intervention.over,
                    "epsilon": intervention.epsilon,
                    "scope": options["scope"],
                    "stage": intervention.stage,
                    "layer": layer,
                    "head": "mean" if head is None else str(head),
                    "query_position": edges[query.ravel()],
                    "key_position": edges[key.ravel()],
                    "query_count": counts[query.ravel()],
                    "key_count": counts[key.ravel()],
                    "query_token": named[edges[query.ravel()]],
                    "key_token": named[edges[key.ravel()]],
                    "weight": shown.ravel().astype(np.float64),
                }
            )
        )
    cells = pd.concat(frames, ignore_index=True)
    text = dict.fromkeys(["over", "query_token", "key_token"], "string")
    return cells.astype(text | {"epsilon": "float64"})
