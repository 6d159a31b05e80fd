"""What goes in and out of every projection, token by token."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.models.loading import decoder, input_device
from llm_figures.models.projections import Application, watched

# Beside the text.
COLUMNS = (
    "position", "layer", "projection", "expert", "input_norm", "output_norm", "weight_norm", "d_in",
    "d_out",
)  # fmt: skip


@torch.inference_mode()
def module_activity(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Norms of what goes in and out of every projection, from one forward pass per text.

    texts: token ids of each text; nothing is padded.

    One row per text × position × layer × module: `input_norm` ‖x‖, `output_norm` ‖Wx‖ (without
    bias), `weight_norm` ‖W‖_F, `d_in` and `d_out`, the sizes of W. Where there are experts, one row
    per expert that the token is routed to, with that expert's own x and W, its number in `expert`.

    Raises:
        UserError: the family keeps its projections in a place that is not known.
    """
    frames: list[pd.DataFrame] = []
    # A frame of each projection would take longer than the pass.
    of_text: list[dict[str, np.ndarray]] = []
    weight_norms: dict[tuple[int, str, int | None], float] = {}

    def measure(seen: Application) -> None:
        projection, expert = seen.projection, seen.expert
        key = (projection.layer, projection.name, expert)
        if key not in weight_norms:
            weight_norms[key] = projection.weight(expert).float().norm().item()
        same = {
            "layer": projection.layer,
            "projection": projection.name,
            "expert": -1 if expert is None else expert,
            "weight_norm": weight_norms[key],
            "d_in": seen.inputs.shape[-1],
            "d_out": seen.outputs.shape[-1],
        }
        of_text.append(
            {
                "position": seen.tokens.cpu().numpy(),
                "input_norm": seen.inputs.float().norm(dim=-1).cpu().numpy(),
                "output_norm": seen.linear.float().norm(dim=-1).cpu().numpy(),
                **{name: np.full(len(seen.tokens), value) for name, value in same.items()},
            }
        )

    with watched(model, measure):
        for index, text in enumerate(texts, start=1):
            ids = torch.tensor([list(text)], device=input_device(model))
            decoder(model)(input_ids=ids, use_cache=False)
            columns = {name: np.concatenate([rows[name] for rows in of_text]) for name in COLUMNS}
            frames.append(pd.DataFrame({"text": index, **columns}))
            of_text.clear()
    found = pd.concat(frames, ignore_index=True)
    numbers = pd.array(found["expert"], dtype="Int32")
    numbers[found["expert"] < 0] = pd.NA
    return found.assign(expert=numbers)
