"""The tidy cells of an attention figure, computed from cached states without the model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from llm_figures.attention.interventions import CLEAN, Intervention
from llm_figures.attention.maps import (
    BinnedMap,
    LayerStates,
    bin_edges,
    compute_mean_map,
    explain_unknown_rotation,
    find_equivalent,
    find_masked,
    find_strongest_head,
    find_strongest_layer,
)
from llm_figures.attention.options import AttentionInterventions, AttentionScoring
from llm_figures.attention.qk_store import StoredStates
from llm_figures.core.errors import UserError

States = LayerStates | StoredStates
# States of passes with an intervention in every layer, by layer, text and intervention.
Intervened = Mapping[tuple[int, int, Intervention], States]
OptionsT = TypeVar("OptionsT", bound=AttentionInterventions)


def list_panels(
    options: AttentionInterventions, texts: int
) -> list[tuple[int, int, int, Intervention]]:
    """The figure's panels: (row, column, text, intervention), rows and columns counted from 0.

    mean: rows are texts, columns components. scale: rows are components, columns epsilons, all of
    one text. Column 0 is left to the clean panels if there are any.

    texts: the number of texts, which are numbered from 1.
    """
    stage, left = options.stage, int(getattr(options, "clean", False))
    if options.operation == "mean":
        return [
            (text - 1, column, text, Intervention(component, "mean", options.over, stage=stage))
            for text in range(1, texts + 1)
            for column, component in enumerate(options.components, start=left)
        ]
    return [
        (row, column, options.input, Intervention(component, "scale", epsilon=epsilon, stage=stage))
        for row, component in enumerate(options.components)
        for column, epsilon in enumerate(options.epsilon, start=left)
    ]


def list_clean_panels(options: AttentionScoring, texts: int) -> list[tuple[int, int, int, None]]:
    """The figure's panels without an intervention, one in column 0 of every row; see `list_panels`.

    All of a scale figure are alike, for its rows are of one text.
    """
    rows = {row: text for row, _, text, _ in list_panels(options, texts)} if options.clean else {}
    return [(row, 0, text, None) for row, text in rows.items()]


def find_shape(clean: Sequence[States]) -> dict[str, int]:
    """The model's number of layers and of heads, from the clean states of every layer.

    Where layers differ in their heads, it is the largest number; see `check_displayed`.
    """
    layers = clean[0].model_layers or 1 + max(states.layer for states in clean)
    return {"layers": layers, "heads": max(states.heads for states in clean)}


def check_displayed(where: str, options: AttentionInterventions, clean: Sequence[States]) -> None:
    """Check that the displayed layer has attention, and so many heads.

    where: the config's section. options: from `resolve_auto`.

    Raises:
        UserError: it has none, or fewer.
    """
    heads = {states.layer: states.heads for states in clean}
    if options.layer not in heads:
        raise UserError(
            f"config: {where}.layer: layer {options.layer} has no attention that can be captured; "
            f"layers of this model that have: {', '.join(map(str, sorted(heads)))}"
        )
    head, count = getattr(options, "head", None), heads[options.layer]
    if isinstance(head, int) and head >= count:
        raise UserError(
            f"config: {where}.head: {head} is outside layer {options.layer}, which has heads 0 to "
            f"{count - 1}"
        )


def resolve_auto(options: OptionsT, clean: Sequence[States]) -> OptionsT:
    """The options with the layer, and the head, of the strongest sink in place of `auto`.

    clean: the clean states of every layer and text.
    """
    if options.layer == "auto":
        options = options.changed(layer=find_strongest_layer(clean))
    if getattr(options, "head", None) == "auto":
        displayed = [states for states in clean if states.layer == options.layer]
        if displayed:  # else `check_displayed` refuses the layer
            options = options.changed(head=find_strongest_head(displayed))
    return options


def check_stage(figure: str, options: AttentionInterventions, clean: Sequence[States]) -> None:
    """Check that the rotary embedding of every layer with an intervention is known, if it matters.

    options: from `resolve_auto`.

    Raises:
        UserError: an intervention on Query or Key before rotary embedding, in a layer that has none
            or one that cannot be observed.
    """
    if not any(intervention.unrotates for *_, intervention in list_panels(options, texts=1)):
        return
    for states in clean:
        if not states.rotated and (options.scope == "model" or states.layer == options.layer):
            problem = explain_unknown_rotation(states.layer)
            raise UserError(f"config: figures.{figure}.stage: before_rotary: {problem}")


def compute_panel_maps(
    options: AttentionScoring, clean: Sequence[States], intervened: Intervened | None = None
) -> Iterator[tuple[int, int, int, Intervention | None, np.ndarray | BinnedMap]]:
    """Yield the figure's panels with their maps: (row, column, text, intervention, map).

    The intervention is None in a clean panel. A map is [tokens, tokens], or a `BinnedMap` if the
    text has more tokens than `options.bins`.

    options: from `resolve_auto`. clean, intervened: see `compute_cells`.

    Raises:
        UserError: see `LayerStates.intervene`.
    """
    displayed = {states.input: states for states in clean if states.layer == options.layer}
    maps: dict[tuple[int, Intervention | None], np.ndarray | BinnedMap] = {}
    texts = len(displayed)
    panels = [*list_clean_panels(options, texts), *list_panels(options, texts)]
    for row, column, text, intervention in panels:
        from_clean = intervened is None or intervention is None
        key = text, find_equivalent(intervention) if from_clean else intervention
        if key not in maps:
            if from_clean:
                states = displayed[text].load().intervene(key[1])
            else:
                states = intervened[options.layer, text, intervention].load()
            if options.head != "mean":
                states = states.select_head(options.head)
            edges = bin_edges(states.query.shape[1], options.bins)
            weights = compute_mean_map(states, edges)
            _check_finite(weights, intervention, options, text)
            binned = len(weights) < edges[-1]
            maps[key] = BinnedMap(weights, np.diff(edges)) if binned else weights
        yield row, column, text, intervention, maps[key]


def _check_finite(
    weights: np.ndarray, intervention: Intervention | None, options: AttentionScoring, text: int
) -> None:
    """Refuse a map that holds NaN or infinity, as where ε carries states out of float32.

    Raises:
        UserError: the panel, its layer and head, and how many of its cells are no numbers.
    """
    count = weights.size - int(np.isfinite(weights).sum())
    if not count:
        return
    operation, advice = "the clean model", "the states are not finite"
    if intervention is not None:
        operation = f"mean of {intervention.component}"
        if intervention.operation == "scale":
            operation = f"{intervention.component} × ε = {intervention.epsilon:g}"
            if not abs(intervention.epsilon) <= 1:
                advice = "the states overflow; take an ε nearer to 1"
    raise UserError(
        f"input {text}, {operation}, layer {options.layer}, head {options.head}: {count:,} of "
        f"{weights.size:,} attention weights are NaN or infinite: {advice}"
    )


def compute_cells(
    figure: str,
    options: AttentionScoring,
    clean: Sequence[States],
    intervened: Intervened | None = None,
) -> pd.DataFrame:
    """One row per cell of every panel: the weight of `query_position` on `key_position`.

    A text of more than `options.bins` tokens is shown in bins. Positions and tokens are then those
    of the first token of a bin, counts the tokens in it (1 in a shorter text), and a weight is the
    total weight on the bin's keys, averaged over the bin's queries. `masked` says that none of a
    cell's queries may attend to any of its keys. A clean panel has the component "clean" and no ε.

    clean: the clean states of every layer and text.
    intervened: with scope model, the states of the displayed layer from passes with interventions.
        With scope layer they follow from the clean ones.

    Raises:
        UserError: see `check_stage`.
    """
    options = resolve_auto(options, clean)
    check_displayed(f"figures.{figure}", options, clean)
    check_stage(figure, options, clean)
    displayed = (states.load() for states in clean if states.layer == options.layer)
    texts = {}
    for states in displayed:
        edges = bin_edges(states.query.shape[1], options.bins)
        head = states if options.head == "mean" else states.select_head(options.head)
        texts[states.input] = states.tokens, edges, find_masked(head, edges)
    frames = []
    for row, column, text, intervention, weights in compute_panel_maps(options, clean, intervened):
        if isinstance(weights, BinnedMap):
            weights = weights.weights
        tokens, edges, masked = texts[text]
        counts, tokens = np.diff(edges), np.array(tokens or [""] * edges[-1], dtype=object)
        query, key = (place.ravel() for place in np.indices(weights.shape))
        frames.append(
            pd.DataFrame(
                {
                    "figure": figure,
                    "panel_row": row,
                    "panel_column": column,
                    "input": text,
                    "component": intervention.component if intervention else CLEAN,
                    "operation": options.operation,
                    "over": options.over if options.operation == "mean" else None,
                    "epsilon": intervention.epsilon if intervention else None,
                    "scope": options.scope,
                    "stage": options.stage,
                    "layer": options.layer,
                    "attention_layers": len({states.layer for states in clean}),
                    "model_layers": find_shape(clean)["layers"],
                    "head": str(options.head),
                    "query_position": edges[query],
                    "key_position": edges[key],
                    "query_count": counts[query],
                    "key_count": counts[key],
                    "query_token": tokens[edges[query]],
                    "key_token": tokens[edges[key]],
                    "weight": weights.ravel().astype(np.float64),
                    "masked": masked.ravel(),
                }
            )
        )
    cells = pd.concat(frames, ignore_index=True)
    strings = dict.fromkeys(["over", "query_token", "key_token"], "string")
    return cells.astype(strings | {"epsilon": "float64"})
