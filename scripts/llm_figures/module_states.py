"""What every projection gives at one named token of every answer, for probes of single modules."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel

from llm_figures.hidden_states import check_finite, states_of_batches
from llm_figures.projections import Application, projections, watched
from llm_figures.tensors import tensor


def module_column(layer: int, module: str) -> str:
    """The column of one projection: "layer_07 mlp. up"; blocks count from 0."""
    return f"layer_{layer:02d} {module}"


def module_states_schema(model: PreTrainedModel) -> pa.Schema:
    """Schema of forward/module_states: one row per question, one tensor column per projection."""
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *(
                (module_column(found.layer, found.name), tensor((found.shape[0],)))
                for found in projections(model)
            ),
        ]
    )


def module_columns(path: str | Path) -> list[tuple[str, int, str]]:
    """(column, layer, module) of every projection in a file."""
    names = [name for name in pq.read_schema(path).names if name.startswith("layer_")]
    return [(name, int(name[6:].split(" ")[0]), name.split(" ", 1)[1]) for name in names]


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
    """Yield the columns of `module_states_schema` batch by batch.

    positions: {named token: position in prompt + answer} of each question, one token each.

    A projection's output is taken with any bias, [d_out]; that of experts is the sum over those
    that the token is routed to, times the router's weights. For the other arguments see
    `hidden_states.hidden_states`.

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

    for columns, found in states_of_batches(
        model, question_ids, prompts, answers, positions, collecting, batch_size, prefix
    ):
        for column, states in found.items():
            check_finite(column, states, columns, model.dtype)
        yield columns | found
