"""Metrics of weights on pairs of matrices whose answers are known by hand."""

import math

import pytest
import torch

from llm_figures.core.errors import UserError
from llm_figures.modules.options import Quantization, Update
from llm_figures.modules.weight_metrics import (
    compute_update_metrics,
    effective_rank,
    quantization_error,
    round_trip,
    subspace_rotation,
)

ALL = ["relative_update", "update_density", "update_effective_rank", "subspace_rotation"]
# The Gram matrix is that of the columns, of the rows, of either.
SHAPES = [(40, 24), (24, 40), (32, 32)]


def orthonormal(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn)[0]


def with_singular_values(shape, values, seed=0):
    """A float64 matrix with these singular values; its left and right vectors."""
    left = orthonormal(shape[0], len(values), seed)
    right = orthonormal(shape[1], len(values), seed + 1)
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T, left, right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 24])
def test_equal_singular_values_have_their_number_as_effective_rank(shape, rank):
    change, *_ = with_singular_values(shape, [0.01] * rank)
    assert effective_rank(change) == pytest.approx(rank, rel=1e-6)


def test_effective_rank_of_unequal_singular_values_is_the_exponential_of_their_entropy():
    change, *_ = with_singular_values((40, 24), [2.0, 1.0, 1.0])
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert effective_rank(change) == pytest.approx(math.exp(entropy), rel=1e-6)
    assert effective_rank(1e-12 * change) == pytest.approx(math.exp(entropy), rel=1e-6)


def test_effective_rank_is_that_of_all_singular_values():
    """Of a matrix of any spectrum, as a singular value decomposition has it."""
    change = torch.randn(50, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change *= torch.logspace(0, -5, 30, dtype=torch.float64)
    shares = torch.linalg.svdvals(change)
    shares /= shares.sum()
    wanted = torch.exp(-(shares * shares.log()).sum()).item()
    assert effective_rank(change) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("degrees", [1e-6, 1e-3, 1.0, 30.0, 60.0, 90.0])
def test_a_turn_by_a_known_angle_in_a_known_plane_is_found(shape, degrees):
    """One of four leading directions, left and right, turns towards one outside."""
    values = [5.0, 4.0, 3.0, 2.0, 0.5, 0.4]
    before, left, right = with_singular_values(shape, values)
    angle = math.radians(degrees)
    turned = [side.clone() for side in (left, right)]
    for side in turned:
        inside, outside = side[:, 1].clone(), side[:, 5].clone()
        side[:, 1] = math.cos(angle) * inside + math.sin(angle) * outside
        side[:, 5] = math.cos(angle) * outside - math.sin(angle) * inside
    after = turned[0] @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turned[1].T
    assert subspace_rotation(before, after, 4) == pytest.approx(degrees / 4, rel=1e-6, abs=1e-12)
    # among the six, the same turn stays inside
    assert subspace_rotation(before, after, 6) == pytest.approx(0, abs=1e-6)


def test_left_and_right_turns_are_averaged():
    before, left, right = with_singular_values((40, 24), [3.0, 2.0, 0.5])
    angle = math.radians(20)
    turned = left.clone()
    turned[:, 1] = math.cos(angle) * left[:, 1] + math.sin(angle) * left[:, 2]
    turned[:, 2] = math.cos(angle) * left[:, 2] - math.sin(angle) * left[:, 1]
    after = turned @ torch.diag(torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)) @ right.T
    # 20 and 0 degrees on the left, none on the right
    assert subspace_rotation(before, after, 2) == pytest.approx(20 / 2 / 2, rel=1e-6)


def test_the_span_has_no_more_vectors_than_the_ranks_have():
    before, left, right = with_singular_values((40, 24), [3.0, 2.0])
    after = left[:, :1] @ right[:, :1].T  # of rank 1, along the first direction
    assert subspace_rotation(before, after, 16) == pytest.approx(0, abs=1e-6)
    assert math.isnan(subspace_rotation(before, torch.zeros(40, 24), 16))


@pytest.mark.parametrize("count", [0, 1, 7, 960])
def test_changed_weights_are_counted(count):
    before = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after.view(-1)[torch.randperm(960)[:count]] += 0.5
    found = compute_update_metrics(
        [(before, after)], ["update_density", "relative_update"], Update()
    )
    assert found["update_density"] == count / 960
    wanted = 0.5 * math.sqrt(count) / before.double().norm().item()
    assert found["relative_update"] == pytest.approx(wanted, rel=1e-6)


def test_the_tolerance_is_a_bound_on_the_difference():
    before = torch.zeros(4, 8)
    after = before.clone()
    after[0] = 1e-6
    after[1] = 0.25
    after[2] = 1e-3

    def density(tolerance):
        return compute_update_metrics(
            [(before, after)], ["update_density"], Update(tolerance=tolerance)
        )["update_density"]

    assert [density(t) for t in (0, 1e-5, 0.25)] == [0.75, 0.5, 0]


def test_a_change_below_the_checkpoints_precision_is_none():
    """bfloat16 has steps of 2^-7 at 1: a change by 2^-9 is rounded away, one by 2^-7 is not."""
    before = torch.ones(4, 8)
    after = before.clone()
    after[0] += 2**-9
    after[1] += 2**-7
    found = compute_update_metrics([(before, after)], ALL, Update())
    assert found["update_density"] == 0.5
    rounded = after.bfloat16()
    for pair in ((before.bfloat16(), rounded), (before, rounded), (before.bfloat16(), after)):
        found = compute_update_metrics([pair], ALL, Update())
        assert found["update_density"] == 0.25
        assert found["relative_update"] == pytest.approx(2**-7 * math.sqrt(8 / 32))
        assert found["update_effective_rank"] == pytest.approx(1)
    # float16 is finer
    found = compute_update_metrics([(before.half(), after)], ALL, Update())
    assert found["update_density"] == 0.5


def test_an_unchanged_matrix_has_no_rank_and_does_not_turn():
    same = torch.randn(40, 24).bfloat16()
    found = compute_update_metrics([(same, same.clone())], ALL, Update())
    assert math.isnan(found.pop("update_effective_rank"))
    assert list(found.values()) == [0, 0, 0]


def test_experts_are_summed_in_norms_and_averaged_in_ranks():
    first, *_ = with_singular_values((40, 24), [1.0] * 24)
    change = torch.zeros(40, 24, dtype=torch.float64)
    change[0, 0] = 1.0
    change[1, 1] = 1.0
    pairs = [(first, first + change), (2 * first, 2 * first), (3 * first, 3 * first + change[:1])]
    pairs[2] = (3 * first, 3 * first.clone())
    pairs[2][1][0, 0] += 1
    found = compute_update_metrics(iter(pairs), ALL, Update(top_k=2))
    assert found["relative_update"] == pytest.approx(math.sqrt(3 / (24 * (1 + 4 + 9))))
    assert found["update_density"] == 3 / (3 * 960)
    assert found["update_effective_rank"] == pytest.approx((2 + 1) / 2)


def test_only_the_metrics_that_are_asked_for_are_given():
    pair = (torch.ones(4, 8), torch.zeros(4, 8))
    assert compute_update_metrics([pair], ["relative_update"], Update()) == {"relative_update": 1}


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(spoilt):
    bad = torch.ones(4, 8)
    bad[1, 1] = spoilt
    with pytest.raises(UserError, match="of x contain numbers that are not finite"):
        compute_update_metrics([(torch.ones(4, 8), bad)], ALL, Update(), "those of x")
    with pytest.raises(UserError, match="of x contain numbers that are not finite"):
        quantization_error([bad], Quantization(), "those of x")


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("scheme", "lowest"), [("symmetric", None), ("asymmetric", 0)])
def test_weights_on_the_grid_lose_nothing(bits, scheme, lowest):
    """A block of levels of a step that float16 holds, the extreme ones among them."""
    if scheme == "symmetric":
        levels = torch.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))
    else:
        levels = torch.arange(2**bits)
    block = levels.repeat(math.ceil(512 / len(levels)))[:512].float()
    weights = torch.stack([0.125 * block, 3 * block]) + (0 if scheme == "symmetric" else -2.5)
    assert (
        quantization_error([weights], Quantization(bits=bits, block_size=256, scheme=scheme)) == 0
    )


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_uniform_weights_lose_a_step_over_the_root_of_twelve(scheme):
    drawn = torch.rand(500, 1024, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step = {"symmetric": 1 / 7, "asymmetric": 2 / 15}[scheme]
    wanted = step / math.sqrt(12) / math.sqrt(1 / 3)
    options = Quantization(block_size=1024, scheme=scheme)
    assert quantization_error([drawn], options) == pytest.approx(wanted, rel=0.005)


def test_blocks_lie_along_the_input_and_the_last_may_be_short():
    weights = torch.zeros(2, 40)
    weights[:, :32] = 7.0
    weights[0, 5] = 3.4
    weights[:, 32:] = torch.tensor([0.007, 0.003] * 4)
    found = round_trip(weights, Quantization())
    assert found[0, 5] == 3
    assert found[1, 5] == 7
    assert torch.allclose(found[:, 32:], weights[:, 32:].double(), rtol=1e-3)
    assert round_trip(torch.zeros(2, 8), Quantization(scheme="asymmetric")).eq(0).all()


def test_the_error_of_experts_is_that_of_one_big_matrix():
    drawn = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    whole = quantization_error([drawn], Quantization())
    parts = quantization_error(iter(drawn.split(2)), Quantization())
    assert parts == pytest.approx(whole, rel=1e-12)
    lost = drawn.double() - round_trip(drawn, Quantization())
    assert whole == pytest.approx((lost.norm() / drawn.double().norm()).item(), rel=1e-12)


def test_weights_beyond_the_range_of_float16_are_refused_where_it_is_used():
    large = torch.full((2, 32), 1e6)
    with pytest.raises(
        UserError, match="the weights are so large that their steps overflow float16"
    ):
        quantization_error([large], Quantization(bits=2))
    pairs = [(torch.ones(2, 32, dtype=torch.float16), large)]
    with pytest.raises(UserError, match="beyond the range of the coarser of the two dtypes"):
        compute_update_metrics(pairs, ["relative_update"], Update())
