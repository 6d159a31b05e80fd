"""Batches that shrink when CUDA runs out of memory and that leave no trace in the results.

On the CPU a row of a matrix product has the same bits whatever the other rows are, as long as there
are at least four: smaller products use kernels that sum in another order. Batches are therefore
padded to multiples of four rows. Attention's bits depend on the number of tokens, so all sequences
of a pass have one length, or are padded to one that depends on their own length alone. The
attention of `rows` does not depend on it. Neither the batch size nor the number of shards then
changes a bit (tests/unit/inference/test_same_bits.py). On a GPU they do.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from llm_figures.core.errors import UserError
from llm_figures.core.job import log

T = TypeVar("T")

# The number of rows of a batch, and the length of a padded sequence, are multiples of these.
KERNEL_ROWS = 4
LENGTH_STEP = 8


def round_up(count: int, step: int = KERNEL_ROWS) -> int:
    """The smallest multiple of `step` that is not below `count`."""
    return -(-count // step) * step


def pad_batch(rows: Sequence[T], device: torch.device) -> list[T]:
    """`rows`; on the CPU with the last one repeated up to a multiple of `KERNEL_ROWS`."""
    missing = round_up(len(rows)) - len(rows) if device.type == "cpu" else 0
    return [*rows, *[rows[-1]] * missing]


def padded_length(length: int, context: int | None, step: int = LENGTH_STEP) -> int:
    """The length to which a sequence is padded: the next multiple of `step` that fits.

    context: the longest sequence that the model takes, in tokens; None where it is not known.
    """
    padded = round_up(length, step)
    return max(length, min(padded, context or padded))


def pad_sequence(sequence: Sequence[int], width: int) -> list[int]:
    """The tokens of a sequence, padded on the right to `width`.

    The tokens of the padding have no meaning: causal attention keeps them out of every position
    before them.
    """
    return [*sequence, *[0] * (width - len(sequence))]


def batch_by_key(
    keys: Sequence[int] | Sequence[tuple[int, ...]], batch_size: int
) -> list[list[int]]:
    """Indices of `keys` in batches of at most `batch_size`; one key per batch, in rising order."""
    indices_of: dict[int | tuple[int, ...], list[int]] = {}
    for index, key in enumerate(keys):
        indices_of.setdefault(key, []).append(index)
    return [
        indices[start : start + batch_size]
        for _, indices in sorted(indices_of.items())
        for start in range(0, len(indices), batch_size)
    ]


def with_oom_backoff(
    batches: Sequence[list[int]], compute: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """Yield each batch and the result of `compute` on it, in order.

    When CUDA runs out of memory, the largest batch size is halved and the failed batch repeated in
    parts; no later batch is larger, and results already yielded stay. The parts are thus the
    batches of a run with a half, or a quarter, of the batch size.

    Raises:
        UserError: a single sequence does not fit.
    """
    largest = max(map(len, batches), default=0)
    for batch in batches:
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            if len(part) > largest:
                waiting[:0] = [part[at : at + largest] for at in range(0, len(part), largest)]
                continue
            try:
                result = compute(part)
            except torch.OutOfMemoryError:
                # Halved outside: here the exception still holds the pass and its tensors.
                result = None
            if result is not None:
                yield part, result
                continue
            largest = halve_batch(len(part), largest)
            waiting.insert(0, part)


def halve_batch(count: int, largest: int) -> int:
    """The batch size after CUDA ran out of memory with `count` sequences: `largest`, halved until
    it is below `count`.

    Raises:
        UserError: `count` is 1.
    """
    if count == 1:
        raise UserError(
            "CUDA out of memory with one sequence; spread the model over several GPUs "
            "(device_map: auto), or use a larger one; batch_size cannot go below 1"
        )
    while largest >= count:
        largest //= 2
    torch.cuda.empty_cache()
    log.info(
        "CUDA out of memory with %d sequences; going on with %d; "
        "a batch_size of %d saves the attempt",
        count,
        largest,
        largest,
    )
    return largest
