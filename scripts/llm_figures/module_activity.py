"""What goes in and out of every projection, token by token."""

from collections.abc import Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.models import decoder, input_device
from llm_figures.projections import Application, watched


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
    of_text: list[pd.DataFrame] = []
    weight_norms: dict[tuple[int, str, int | None], float] = {}

    def measure(seen: Application) -> None:
        projection, expert = seen.projection, seen.expert
        key = (projection.layer, projection.name, expert)
        if key not in weight_norms:
            weight_norms[key] = projection.weight(expert).float().norm().item()
        of_text.append(
            pd.DataFrame(
                {
                    "position": seen.tokens.cpu().numpy(),
                    "layer": projection.layer,
                    "module": projection.name,
                    "expert": pd.array([expert], dtype="Int32").repeat(len(seen.tokens)),
                    "input_norm": seen.inputs.float().norm(dim=-1).cpu().numpy(),
                    "output_norm": seen.linear.float().norm(dim=-1).cpu().numpy(),
                    "weight_norm": weight_norms[key],
                    "d_in": seen.inputs.shape[-1],
                    "d_out": seen.outputs.shape[-1],
                }
            )
        )

    with watched(model, measure):
        for index, text in enumerate(texts, start=1):
            ids = torch.tensor([list(text)], device=input_device(model))
            decoder(model)(input_ids=ids, use_cache=False)
            together = pd.concat(of_text, ignore_index=True)
            together.insert(0, "text", index)
            frames.append(together)
            of_text.clear()
    return pd.concat(frames, ignore_index=True)
