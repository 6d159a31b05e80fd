"""Batches that become smaller where CUDA runs out of memory, and that do not show in the numbers.

On the CPU a row of a matrix product has the same bits whatever rows stand beside it, as long as
there are four: fewer go through kernels that add up in another order. Batches are therefore filled
up to whole fours. Attention's bits depend on the number of tokens, so a batch holds sequences of
one length, or padded to one that follows from their own. Then neither the size of the batches nor
the number of shards moves a bit (tests/unit/inference/test_same_bits.py). On a GPU the bits do
depend on them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from llm_figures.core.errors import UserError
from llm_figures.core.job import log

T = TypeVar("T")

KERNEL_ROWS = 4
# Sequences that differ by less share a batch.
PADDED_TO = 8


def whole(count: int) -> int:
    """`count` rounded up to whole fours."""
    return -(-count // KERNEL_ROWS) * KERNEL_ROWS


def filled(rows: Sequence[T], device: torch.device) -> list[T]:
    """`rows`, on the CPU with the last of them repeated up to whole fours."""
    more = whole(len(rows)) - len(rows) if device.type == "cpu" else 0
    return [*rows, *[rows[-1]] * more]


def padded_length(length: int, room: int | None) -> int:
    """The length to which a sequence is padded: the next multiple of eight for which there is room.

    room: the longest sequence that the model takes; None where it is not known.
    """
    padded = -(-length // PADDED_TO) * PADDED_TO
    return max(length, min(padded, room or padded))


def of_one_key(keys: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of `keys` in batches of at most `batch_size` with one key each, by rising key."""
    together: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        together.setdefault(key, []).append(index)
    return [
        indices[start : start + batch_size]
        for _, indices in sorted(together.items())
        for start in range(0, len(indices), batch_size)
    ]


def with_oom_backoff(
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
