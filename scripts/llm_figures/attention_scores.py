"""The tidy cells of an attention figure, from cached states alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention import (
    LayerStates,
    strongest_head,
    strongest_layer,
    unknown_rotation,
)
from llm_figures.errors import UserError
from llm_figures.operations import Alteration


def panels(options: dict, inputs: int) -> list[tuple[int, int, int, Alteration]]:
    """The figure's panels: (row, column, input, alteration), row and column from 0.

    mean: rows are inputs, columns components. scale: rows are components, columns epsilons, all
    of the one input of the options. Inputs count from 1.
    """
    components, stage = options["components"], options["stage"]
    if options["operation"] == "mean":
        return [
            (row, column, row + 1, Alteration(component, "mean", over=options["over"], stage=stage))
            for row in range(inputs)
            for column, component in enumerate(components)
        ]
    return [
        (
            row,
            column,
            options["input"],
            Alteration(component, "scale", epsilon=epsilon, stage=stage),
        )
        for row, component in enumerate(components)
        for column, epsilon in enumerate(options["epsilon"])
    ]


def shape_of_states(states: Sequence[LayerStates]) -> dict[str, int]:
    """The model's number of layers and of heads, from the states of every layer."""
    return {"layers": 1 + max(state.layer for state in states), "heads": len(states[0].query)}


def shown_layer(options: dict, unaltered: Sequence[LayerStates]) -> int:
    """The layer of the options; `auto` is the one with the strongest sink, unaltered."""
    layer = options["layer"]
    return strongest_layer(unaltered) if layer == "auto" else layer


def shown_head(options: dict, unaltered: Sequence[LayerStates], layer: int) -> int | None:
    """The head of the options, None for the mean; `auto` has the strongest sink, unaltered."""
    head = options["head"]
    if head == "auto":
        return strongest_head([states for states in unaltered if states.layer == layer])
    return None if head == "mean" else head


def panel_maps(
    options: dict,
    unaltered: Sequence[LayerStates],
    altered: dict[tuple[int, Alteration], LayerStates] | None,
    layer: int,
    head: int | None,
) -> Iterator[tuple[int, int, int, Alteration, np.ndarray]]:
    """The figure's panels with their maps: (row, column, input, alteration, [tokens, tokens]).

    Arguments as in `attention_cells`; head None is the mean over heads.
    """
    by_input = {states.input: states for states in unaltered if states.layer == layer}
    for row, column, index, alteration in panels(options, len(by_input)):
        if altered is None:
            states = by_input[index].altered(alteration)
        else:
            states = altered[index, alteration]
        if head is None:
            yield row, column, index, alteration, states.weights().mean(axis=0)
        else:
            yield row, column, index, alteration, states.head(head).weights()[0]


def check_stage(figure: str, options: dict, unaltered: Sequence[LayerStates]) -> None:
    """Check that every changed layer's rotary embedding is known where the options need it.

    Raises:
        UserError: a change of Query or Key before rotary embedding in a layer without one, or
            whose own cannot be observed.
    """
    if not any(made.unrotates for *_, made in panels(options, inputs=1)):
        return
    everywhere = options["scope"] == "model"
    shown = shown_layer(options, unaltered)
    for states in unaltered:
        if states.rotation is None and (everywhere or states.layer == shown):
            raise UserError(
                f"config: figures.{figure}.stage: before_rotary: {unknown_rotation(states.layer)}"
            )


def attention_cells(
    figure: str,
    options: dict,
    unaltered: Sequence[LayerStates],
    altered: dict[tuple[int, Alteration], LayerStates] | None = None,
) -> pd.DataFrame:
    """One row per cell of every panel: the weight of `query_position` on `key_position`.

    unaltered: every layer's states of every input.
    altered: for scope model, the states of the shown layer from a pass with the change in every
        layer, by input and alteration; for scope layer the change is made here.

    Raises:
        UserError: see `check_stage`.
    """
    check_stage(figure, options, unaltered)
    layer = shown_layer(options, unaltered)
    head = shown_head(options, unaltered, layer)
    frames = []
    maps = panel_maps(options, unaltered, altered, layer, head)
    for row, column, index, alteration, shown in maps:
        query, key = np.indices(shown.shape)
        frames.append(
            pd.DataFrame(
                {
                    "figure": figure,
                    "panel_row": row,
                    "panel_column": column,
                    "input": index,
                    "component": alteration.component,
                    "operation": alteration.operation,
                    "over": alteration.over,
                    "epsilon": alteration.epsilon,
                    "scope": options["scope"],
                    "stage": alteration.stage,
                    "layer": layer,
                    "head": "mean" if head is None else str(head),
                    "query_position": query.ravel(),
                    "key_position": key.ravel(),
                    "weight": shown.ravel(),
                }
            )
        )
    cells = pd.concat(frames, ignore_index=True)
    return cells.astype({"over": "string", "epsilon": "float64"})
