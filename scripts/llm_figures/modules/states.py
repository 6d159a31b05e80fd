"""Outputs of every projection at one named token of every answer, for probes of projections."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.models.projections import Application, find_projections, watch_projections
from llm_figures.modules.schema import column_name
from llm_figures.probe.hidden_states import cast_states, check_finite, record_batches


def list_widths(model: PreTrainedModel) -> list[tuple[int, str, int]]:
    """(layer, projection, d_out) of every projection, for `schema.build_schema`."""
    return [(one.layer, one.name, one.shape[0]) for one in find_projections(model)]


@torch.inference_mode()
def extract_module_states(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
    *,
    batch_size: int,
    prefix: Sequence[int] | None = None,
    states_dtype: str = "float32",
) -> Iterator[dict[str, Sequence | np.ndarray]]:
    """Yield the columns of `schema.build_schema` batch by batch.

    positions: {named token: position in prompt + answer} of each question, one token each. For the
        other arguments see `hidden_states.extract_hidden_states`.

    An output [d_out] includes any bias. With experts, it is the sum over those that the token is
    routed to, weighted by the router.

    Raises:
        UserError: the family keeps its projections in an unknown place; a value is not finite,
            or too large for states_dtype.
    """

    @contextmanager
    def recording(rows: list[int], places: list[int], tokens: int):
        recorded: dict[str, np.ndarray] = {}
        sums: dict[str, torch.Tensor] = {}
        # flattened position in the batch -> row of the result, else -1
        row_of = torch.full(((max(rows, default=0) + 1) * tokens,), -1)
        row_of[torch.tensor(rows) * tokens + torch.tensor(places)] = torch.arange(len(rows))

        def record(seen: Application) -> None:
            at = seen.tokens.cpu()
            row = torch.full_like(at, -1)
            inside = at < len(row_of)  # a batch may be padded with further sequences
            row[inside] = row_of[at[inside]]
            named = (row >= 0).to(seen.outputs.device)
            outputs = seen.outputs[named].float()
            if seen.shares is not None:
                outputs = outputs * seen.shares[named, None].float()
            column = column_name(seen.projection.layer, seen.projection.name)
            if column not in sums:
                sums[column] = torch.zeros(len(rows), outputs.shape[1])
            sums[column].index_add_(0, row[row >= 0], outputs.cpu())

        with watch_projections(model, record):
            yield recorded
        recorded.update({column: states.numpy() for column, states in sums.items()})

    for keys, recorded in record_batches(
        model, question_ids, prompts, answers, positions, recording, batch_size, prefix
    ):
        for column, states in recorded.items():
            check_finite(column, states, keys, model.dtype)
            recorded[column] = cast_states(column, states, keys, states_dtype)
        yield keys | recorded
