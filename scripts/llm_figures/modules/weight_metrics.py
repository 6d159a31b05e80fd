"""Metrics of each projection's weights, in one checkpoint or two, matrix by matrix.

W is the weight of the other, earlier checkpoint (`compare_with`), W + ΔW that of the model itself.
If their dtypes differ, both are rounded to the coarser one first, so that rounding is not taken for
a change. The experts of a layer count as one big matrix in norms and counts; ranks and angles are
averaged over them.
"""

import os
from collections.abc import Collection, Iterable, Iterator

from llm_figures.core.environment import REPEATABLE

os.environ.update(REPEATABLE | os.environ)

import numpy as np
import torch
from scipy.linalg import eigh, eigvalsh, subspace_angles

from llm_figures.core.errors import UserError
from llm_figures.modules.options import Quantization, Update

# Entries converted to float64 at a time: 1 MB, which fits the cache of a core. With larger pieces
# every step of a round trip waits for memory and takes five times as long.
PIECE = 2**17
# Eigenvalues of a Gram matrix below this share of the largest are rounding errors. The root of it,
# 6e-8, is the rounding of float32, so a checkpoint's weights have no smaller singular values.
ROUNDING = 16 * np.finfo(np.float64).eps


def compute_update_metrics(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    metrics: Collection[str],
    options: Update,
    where: str = "the weights",
) -> dict[str, float]:
    """{metric: value} of one projection for the given metrics.

    pairs: (W, W + ΔW) of every expert, [d_out, d_in] each, consumed one after the other; one pair
        for a projection without experts.
    where: what has the weights, for messages.

    relative_update: ‖ΔW‖_F / ‖W‖_F; NaN if W = 0.
    update_density: share of weights (0 to 1) with |ΔW| > tolerance. A tolerance of 0 counts all
        that differ in the checkpoints' own precision. The effect of an absolute one depends on the
        size of the weights: 1e-5, as in the code of Mukherjee et al. 2025 (arXiv 2505.11711), is
        below the spacing of bfloat16 for weights above 0.002, and hides changes only of smaller
        ones.
    update_effective_rank: see `effective_rank`; NaN if ΔW = 0. Experts without a change are left
        out of the average.
    subspace_rotation: see `subspace_rotation`, in degrees; 0 if ΔW = 0.

    Raises:
        UserError: a weight is not a finite number, or beyond the range of the coarser dtype.
    """
    of_change = of_weights = 0.0
    changed = count = 0
    ranks, rotations = [], []
    for before, after in pairs:
        before, after = _in_coarser(before, after)
        change = after - before
        size, weight = squared_norm(change), squared_norm(before)
        if not np.isfinite(size + weight):
            raise UserError(
                f"{where} contain numbers that are not finite, or beyond the range of the coarser "
                "of the two dtypes, in which they are compared; check both checkpoints"
            )
        of_change, of_weights = of_change + size, of_weights + weight
        if "update_density" in metrics:
            for piece in _pieces(change):
                changed += int((piece.abs() > options.tolerance).sum())
        count += change.numel()
        if "update_effective_rank" in metrics:
            ranks.append(effective_rank(change))
        del change
        if "subspace_rotation" in metrics:
            rotations.append(subspace_rotation(before, after, options.top_k) if size else 0.0)
        del before, after  # free them before the next pair is read
    values = {
        "relative_update": _ratio(of_change, of_weights),
        "update_density": changed / count,
        "update_effective_rank": _average(ranks),
        "subspace_rotation": _average(rotations),
    }
    return {metric: values[metric] for metric in metrics}


def effective_rank(matrix: torch.Tensor) -> float:
    """exp of the entropy of the normalised singular values; NaN for a matrix of zeros.

    Between 1 and the smaller side; r for r equal singular values (Roy & Vetterli 2007, The
    effective rank). The rounding of a checkpoint's dtype is part of a change of weights and adds
    to its rank.

    Singular values are roots of eigenvalues of the Gram matrix of the smaller side, in float64.
    Those below 6e-8 of the largest are lost and count as 0. Each would add at most
    6e-8 · ln(1 / 6e-8) = 1e-6 to the entropy.
    """
    eigenvalues = eigvalsh(_gram(matrix), overwrite_a=True, check_finite=False)
    largest = eigenvalues[-1]
    if not largest > 0:
        return float("nan")
    singular = np.sqrt(eigenvalues[eigenvalues > ROUNDING * largest])
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def subspace_rotation(before: torch.Tensor, after: torch.Tensor, top_k: int) -> float:
    """Mean principal angle in degrees between the spans of the first k singular vectors of both.

    The average over left and right singular vectors. k is at most the smaller side, whose space is
    then spanned completely and does not turn, and at most the rank of either matrix; NaN for a
    matrix of zeros. Angles are computed from cosines or, below 45°, from sines, and so are accurate
    when tiny (Björck & Golub 1973; Knyazev & Argentati 2002).

    The vectors are eigenvectors of the Gram matrix of the smaller side, in float64, and their
    images. Their uncertainty is about 2e-16 σ_1² / (σ_k² − σ_{k+1}²): if the kth and the next
    singular value are nearly equal, the smallest change of the weights turns the span.
    """
    k = min(top_k, *before.shape)
    spans = [_top_spans(matrix, k) for matrix in (before, after)]
    k = min(len(span[0].T) for span in spans)
    if k == 0:
        return float("nan")
    angles = [subspace_angles(mine[:, :k], its[:, :k]) for mine, its in zip(*spans, strict=True)]
    return float(np.degrees(np.mean(angles)))


def quantization_error(
    matrices: Iterable[torch.Tensor], options: Quantization, where: str = "the weights"
) -> float:
    """‖W − Q(W)‖_F / ‖W‖_F of one projection; NaN if W = 0. See `round_trip` for Q.

    matrices: W [d_out, d_in] of every expert.

    Raises:
        UserError: a weight is not a finite number.
    """
    lost = norm = 0.0
    for matrix in matrices:
        for piece in _pieces(matrix, PIECE // 2):  # beside its copies of each step
            norm += float(piece.square().sum())
            lost += float((piece - round_trip(piece, options)).square().sum())
    if not np.isfinite(norm):
        raise UserError(f"{where} contain numbers that are not finite; download them again")
    if not np.isfinite(lost):
        raise UserError(
            f"{where} are so large that their steps overflow float16, in which quantization_error "
            "keeps them; leave this metric out"
        )
    return _ratio(lost, norm)


def round_trip(weights: torch.Tensor, options: Quantization) -> torch.Tensor:
    """Q(W): weights quantised in blocks along the input dimension and restored, in float64.

    weights: [d_out, d_in]; a row's last block may be shorter.

    The scheme "symmetric" has 2^bits − 1 levels around 0, with a step of max|w| / (2^(bits−1) − 1);
    "asymmetric" has 2^bits levels from the block's least to its greatest weight. The step and the
    least weight are rounded to float16, as in common 4-bit formats. A weight goes to the nearest
    level, ties to the even one. Nothing is calibrated on activations.
    """
    d_out, d_in = weights.shape
    bits = options.bits
    regular = d_in - d_in % options.block_size
    restored = torch.empty(d_out, d_in, dtype=torch.float64)
    for start, stop, size in ((0, regular, options.block_size), (regular, d_in, d_in - regular)):
        if start == stop:
            continue
        blocks = weights[:, start:stop].double().reshape(d_out, -1, size)
        if options.scheme == "symmetric":
            top = 2 ** (bits - 1) - 1
            zero = torch.zeros(())
            step = blocks.abs().amax(-1, keepdim=True) / top
            bottom = -top
        else:
            top, bottom = 2**bits - 1, 0
            zero = _float16(blocks.amin(-1, keepdim=True))
            step = (blocks.amax(-1, keepdim=True) - zero) / top
        step = _float16(step)
        levels = torch.nan_to_num((blocks - zero) / step, 0.0).round().clamp(bottom, top)
        restored[:, start:stop] = (levels * step + zero).reshape(d_out, -1)
    return restored


def squared_norm(matrix: torch.Tensor) -> float:
    """‖W‖_F², summed in float64."""
    return sum(float(piece.square().sum()) for piece in _pieces(matrix))


def _float16(values: torch.Tensor) -> torch.Tensor:
    return values.half().double()


def _in_coarser(*matrices: torch.Tensor) -> list[torch.Tensor]:
    """The matrices rounded to the coarser of their dtypes, in a dtype for differences."""
    coarse = max((m.dtype for m in matrices), key=lambda dtype: torch.finfo(dtype).eps)
    wide = torch.float64 if coarse == torch.float64 else torch.float32
    return [matrix.to(coarse).to(wide) for matrix in matrices]


def _pieces(matrix: torch.Tensor, size: int = PIECE) -> Iterator[torch.Tensor]:
    """The rows of a matrix in float64, `size` entries at a time."""
    for rows in matrix.split(max(1, size // matrix.shape[1])):
        yield rows.double()


def _gram(matrix: torch.Tensor) -> np.ndarray:
    """The Gram matrix of the smaller side, float64, [n, n]."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for piece in _pieces(tall):
        gram.addmm_(piece.T, piece)
    return gram.numpy()


def _top_spans(matrix: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first left [d_out, r] and right [d_in, r] singular vectors, orthonormal.

    r: k, or the rank of the matrix if that is less.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    side = tall.shape[1]
    values, vectors = eigh(
        _gram(matrix), subset_by_index=(side - k, side - 1), overwrite_a=True, check_finite=False
    )
    if len(values) < k:
        # LAPACK finds no subset of eigenvalues that are all equal, on some processors
        values, vectors = (part[..., -k:] for part in eigh(_gram(matrix), check_finite=False))
    nonzero = values > ROUNDING * max(values[-1], 0)
    inner = vectors[:, nonzero][:, ::-1].copy()
    images = torch.cat([piece @ torch.from_numpy(inner) for piece in _pieces(tall)]).numpy()
    outer = np.linalg.qr(images)[0]
    return (outer, inner) if tall is matrix else (inner, outer)


def _ratio(part: float, whole: float) -> float:
    return float(np.sqrt(part / whole)) if whole else float("nan")


def _average(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
