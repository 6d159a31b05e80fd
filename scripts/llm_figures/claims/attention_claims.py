"""Claims about an attention figure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import Intervened, States, compute_panel_maps
from llm_figures.claims.evaluation import Spread, assess, attempt, claim_rows
from llm_figures.claims.panels import Maps, Panel, maps_of, measure_maps, spread_over_inputs


def attention_claims(
    model: str,
    claims: Sequence[Mapping],
    cells: pd.DataFrame,
    options: AttentionScoring,
    clean: Sequence[States],
    intervened: Intervened | None = None,
) -> pd.DataFrame:
    """Rows of claims.parquet for one attention figure.

    cells: the figure's tidy cells, from which every value is taken.
    options, clean, intervened: what they were made from (see `scores.compute_cells`);
        for the spread over inputs and over heads, which the figure itself does not show.
    """
    shown = maps_of(cells)
    inputs = sorted({panel.input for panel in shown})
    head = cells["head"].iloc[0]
    options = options.changed(
        layer=int(cells["layer"].iloc[0]), head=head if head == "mean" else int(head)
    )
    every = shown if intervened is not None else _maps(options, clean)
    by_head = [
        {panel: map_ for panel, map_ in maps.items() if panel.input in inputs}
        for maps in (
            _maps(options.changed(head=number), clean, intervened)
            for number in range(clean[0].heads)
        )
    ]

    def row(claim: Mapping) -> dict:
        def spread() -> Spread | None:
            return spread_over_inputs(claim, every)

        def heads() -> list[float]:
            return [attempt(claim, measure_maps, maps) for maps in by_head]

        return assess(model, claim, lambda: measure_maps(claim, shown), spread, heads)

    return claim_rows([row(claim) for claim in claims])


def _maps(
    options: AttentionScoring, clean: Sequence[States], intervened: Intervened | None = None
) -> Maps:
    """The maps of every input: a scale figure shows one, the states hold all."""
    indices = sorted({states.input for states in clean})
    variants = [options]
    if options.operation == "scale" and intervened is None:
        variants = [options.changed(input=index) for index in indices]
    found: dict[Panel, np.ndarray] = {}
    for variant in variants:
        for _, _, index, made, weights in compute_panel_maps(variant, clean, intervened):
            found[Panel(index, made.component, made.operation, made.epsilon)] = weights
    return found
