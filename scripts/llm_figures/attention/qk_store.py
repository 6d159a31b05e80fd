"""Attention states files read a row at a time: what a figure needs of them is one layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import LayerStates, intervention_of, layer_states, not_finite
from llm_figures.core.parquet_tensors import RowReader

SMALL = ["input", "layer", "component", "operation", "over", "epsilon", "stage", "sink_strength"]


@dataclass(frozen=True)
class StoredStates:
    """A row of an attention states file that is not read yet, and what is known of it.

    It stands for `maps.LayerStates` wherever layers and heads are chosen; `loaded` reads it.
    strength: [heads], F of every head; None in a pass with an intervention. rotated: whether it is
    known how the states were rotated.
    """

    input: int
    layer: int
    intervention: Intervention | None
    strength: np.ndarray | None
    rotated: bool
    heads: int
    row: int
    reader: RowReader

    def loaded(self) -> LayerStates:
        """The states themselves.

        Raises:
            UserError: the file is damaged, or they are not finite.
        """
        ((_, states),) = layer_states(self.reader.row(self.row))
        return states


def stored_states(path: str | Path) -> list[StoredStates]:
    """All rows of an attention states file.

    Raises:
        UserError: see `parquet_tensors.RowReader`; a layer whose states are not finite.
    """
    reader = RowReader(path)
    heads = reader.schema.field("query").type.shape[0]
    rows = reader.columns([*SMALL, "pair_index"]).to_pylist()
    found = []
    for number, row in enumerate(rows):
        strength = None if row["sink_strength"] is None else np.array(row["sink_strength"])
        if strength is not None and not np.isfinite(strength).all():
            raise not_finite(row["input"], row["layer"])
        found.append(
            StoredStates(
                row["input"],
                row["layer"],
                intervention_of(row),
                strength,
                row["pair_index"] is not None,
                heads,
                number,
                reader,
            )
        )
    return found


def intervened_states(
    path: str | Path | None,
) -> Mapping[tuple[int, int, Intervention], StoredStates]:
    """The rows of a file of passes with interventions, by layer, input and intervention."""
    rows = [] if path is None else stored_states(path)
    return {(states.layer, states.input, states.intervention): states for states in rows}
