"""Batches that become smaller where CUDA runs out of memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from llm_figures.errors import UserError
from llm_figures.job import log

T = TypeVar("T")


def halved_on_demand(
    batches: Sequence[list[int]], compute: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """Yield each batch and what `compute` makes of it, in order.

    A batch that CUDA has no memory for is done again in parts, and no later one is larger; what
    has been yielded stays. The largest batch's size is halved, so that the parts are the batches
    of a run with a half, or a quarter, as `batch_size`.

    Raises:
        UserError: one sequence is too much.
    """
    most = max(map(len, batches), default=0)
    for batch in batches:
        waiting = [batch]
        while waiting:
            piece = waiting.pop(0)
            if len(piece) > most:
                waiting[:0] = [piece[at : at + most] for at in range(0, len(piece), most)]
                continue
            try:
                done = compute(piece)
            except torch.OutOfMemoryError:
                # Halved outside: here the exception still holds the pass and its tensors.
                done = None
            if done is not None:
                yield piece, done
                continue
            if len(piece) == 1:
                raise UserError(
                    "CUDA out of memory with one sequence; spread the model over several GPUs "
                    "(device_map: auto), or use a larger one; batch_size cannot go below 1"
                )
            while most >= len(piece):
                most //= 2
            torch.cuda.empty_cache()
            log.info(
                "CUDA out of memory with %d sequences; going on with %d; "
                "a batch_size of %d saves the attempt",
                len(piece),
                most,
                most,
            )
            waiting.insert(0, piece)
