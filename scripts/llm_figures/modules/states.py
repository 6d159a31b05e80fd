"""What every projection gives at one named token of every answer, for probes of single modules."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.models.projections import Application, projections, watched
from llm_figures.modules.schema import module_column
from llm_figures.probe.hidden_states import check_finite, record_batches


def module_states_columns(model: PreTrainedModel) -> list[tuple[int, str, int]]:
    """(layer, module, d_out) of every projection, for `schema.module_states_schema`."""
    return [(found.layer, found.name, found.shape[0]) for found in projections(model)]


@torch.inference_mode()
def module_states(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
    *,
    batch_size: int,
    prefix: Sequence[int] | None = None,
) -> Iterator[dict[str, Sequence | np.ndarray]]:
    """Yield the columns of `schema.module_states_schema` batch by batch.

    positions: {named token: position in prompt + answer} of each question, one token each.

    A projection's output is taken with any bias, [d_out]; that of experts is the sum over those
    that the token is routed to, times the router's weights. For the other arguments see
    `hidden_states.extract_hidden_states`.

    Raises:
        UserError: a family whose projections are not known; a value that is not finite.
    """

    @contextmanager
    def collecting(rows: list[int], places: list[int], tokens: int):
        found: dict[str, np.ndarray] = {}
        sums: dict[str, torch.Tensor] = {}
        # place among the batch's tokens -> row of the result, else -1
        row_of = torch.full(((max(rows, default=0) + 1) * tokens,), -1)
        row_of[torch.tensor(rows) * tokens + torch.tensor(places)] = torch.arange(len(rows))

        def keep(seen: Application) -> None:
            at = seen.tokens.cpu()
            named = torch.full_like(at, -1)
            inside = at < len(row_of)  # a batch may be filled up with further rows
            named[inside] = row_of[at[inside]]
            chosen = (named >= 0).to(seen.outputs.device)
            outputs = seen.outputs[chosen].float()
            if seen.shares is not None:
                outputs = outputs * seen.shares[chosen, None].float()
            column = module_column(seen.projection.layer, seen.projection.name)
            if column not in sums:
                sums[column] = torch.zeros(len(rows), outputs.shape[1])
            sums[column].index_add_(0, named[named >= 0], outputs.cpu())

        with watched(model, keep):
            yield found
        found.update({column: states.numpy() for column, states in sums.items()})

    for columns, found in record_batches(
        model, question_ids, prompts, answers, positions, collecting, batch_size, prefix
    ):
        for column, states in found.items():
            check_finite(column, states, columns, model.dtype)
        yield columns | found
