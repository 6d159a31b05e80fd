"""Evaluate claims about an attention figure."""

from collections.abc import Sequence

import pandas as pd

from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import Intervened, States, resolve_auto
from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import (
    Spread,
    assess,
    attempt,
    build_claims_table,
    measure_references,
)
from llm_figures.claims.panels import (
    Maps,
    compute_maps,
    measure_maps,
    measure_spread,
    read_maps,
)
from llm_figures.claims.reference_maps import draw_reference_maps


def check_attention_claims(
    model: str,
    claims: Sequence[FigureClaim],
    cells: pd.DataFrame,
    options: AttentionScoring,
    clean: Sequence[States],
    intervened: Intervened | None = None,
    random_weights: Sequence[Sequence[LayerStates]] = (),
) -> pd.DataFrame:
    """Rows of claims.parquet for one attention figure.

    cells: the figure's tidy cells, from which every value is taken.
    options, clean, intervened: what they were made from (see `scores.compute_cells`). The spread
        over inputs and over heads, which the figure itself does not show, is computed from these.
    random_weights: see `draw_reference_maps`.
    """
    shown = read_maps(cells)
    options = resolve_auto(options, clean)
    inputs = {panel.input for panel in shown}
    heads = next(states.heads for states in clean if states.layer == options.layer)
    every = _compute_all_maps(options, clean) if intervened is None else shown
    by_head = [
        {panel: map_ for panel, map_ in maps.items() if panel.input in inputs}
        for maps in (
            _compute_all_maps(options.changed(head=head), clean, intervened)
            for head in range(heads)
        )
    ]

    displayed = [states.load() for states in clean if states.layer == options.layer]
    references = measure_references(
        claims, measure_maps, draw_reference_maps(options, displayed, random_weights)
    )

    def row(claim: FigureClaim) -> dict:
        def spread() -> Spread | None:
            return measure_spread(claim, every)

        def values_by_head() -> list[float]:
            return [attempt(claim, measure_maps, maps) for maps in by_head]

        return assess(
            model,
            claim,
            lambda: measure_maps(claim, shown),
            spread,
            values_by_head,
            lambda: references[claim.name],
        )

    return build_claims_table([row(claim) for claim in claims])


def _compute_all_maps(
    options: AttentionScoring, clean: Sequence[States], intervened: Intervened | None = None
) -> Maps:
    """The maps of every input: a scale figure shows one input, the states hold all of them."""
    variants = [options]
    if options.operation == "scale" and intervened is None:
        inputs = sorted({states.input for states in clean})
        variants = [options.changed(input=index) for index in inputs]
    return {
        panel: weights
        for variant in variants
        for panel, weights in compute_maps(variant, clean, intervened).items()
    }
