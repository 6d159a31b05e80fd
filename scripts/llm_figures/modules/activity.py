"""Norms of the inputs and outputs of every projection, token by token."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.inference.finite_outputs import check_outputs
from llm_figures.models.loading import decoder, input_device
from llm_figures.models.projections import Application, watch_projections

# Columns beside the text.
COLUMNS = (
    "position", "layer", "projection", "expert", "input_norm", "output_norm", "weight_norm", "d_in",
    "d_out",
)  # fmt: skip


@torch.inference_mode()
def measure_activity(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Measure every projection's inputs and outputs in one forward pass per text.

    texts: token ids of each text, not padded.

    Returns one row per text × position × layer × projection: `input_norm` ‖x‖, `output_norm` ‖Wx‖
    (without bias), `weight_norm` ‖W‖_F, `d_in` and `d_out`, the sizes of W. With experts, one row
    for each that the token is routed to, with that expert's x and W and its number in `expert`.

    Raises:
        UserError: the family keeps its projections in an unknown place; a norm is not finite.
    """
    frames: list[pd.DataFrame] = []
    # arrays, because a frame for each projection would take longer than the pass
    columns_of_text: list[dict[str, np.ndarray]] = []
    weight_norms: dict[tuple[int, str, int | None], float] = {}

    def measure(seen: Application) -> None:
        projection, expert = seen.projection, seen.expert
        key = (projection.layer, projection.name, expert)
        if key not in weight_norms:
            weight_norms[key] = _norms(projection.weight(expert).reshape(-1)).item()
        constant = {
            "layer": projection.layer,
            "projection": projection.name,
            "expert": -1 if expert is None else expert,
            "weight_norm": weight_norms[key],
            "d_in": seen.inputs.shape[-1],
            "d_out": seen.outputs.shape[-1],
        }
        columns_of_text.append(
            {
                "position": seen.tokens.cpu().numpy(),
                "input_norm": _norms(seen.inputs).cpu().numpy(),
                "output_norm": _norms(seen.linear).cpu().numpy(),
                **{name: np.full(len(seen.tokens), value) for name, value in constant.items()},
            }
        )

    with watch_projections(model, measure):
        for index, text in enumerate(texts, start=1):
            ids = torch.tensor([list(text)], device=input_device(model))
            decoder(model)(input_ids=ids, use_cache=False)
            columns = {
                name: np.concatenate([part[name] for part in columns_of_text]) for name in COLUMNS
            }
            _check_norms(model, index, columns)
            frames.append(pd.DataFrame({"text": index, **columns}))
            columns_of_text.clear()
    activity = pd.concat(frames, ignore_index=True)
    experts = pd.array(activity["expert"], dtype="Int32")
    experts[activity["expert"] < 0] = pd.NA
    return activity.assign(expert=experts)


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Norms [...] in float32 of vectors [..., d]; squares neither overflow nor vanish in it."""
    vectors = vectors.float()
    largest = vectors.abs().amax(dim=-1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)
    return (vectors / unit).norm(dim=-1) * largest.squeeze(-1)


def _check_norms(model: PreTrainedModel, text: int, columns: dict[str, np.ndarray]) -> None:
    norms = columns["input_norm"] + columns["output_norm"] + columns["weight_norm"]
    finite = np.isfinite(norms)
    if not finite.all():
        row = int(np.argmin(finite))
        where = f"layer {columns['layer'][row]}, {columns['projection'][row]}, of text {text}"
        check_outputs(model, [np.nan], lambda _: f"values that are not finite in {where}")
