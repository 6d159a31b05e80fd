import pytest

from llm_figures.core.numbers import (
    at_most_three_decimals,
    four_decimals,
    three_decimals,
    three_digits,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (20.0, "20"), (0.25, "0.25"), (-0.8664, "−0.866"), (0.0001999, "2e−4"),
     (-1e-10, "−1e−10")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert at_most_three_decimals(value) == text


def test_a_value_below_its_threshold_does_not_look_like_it():
    assert at_most_three_decimals(0.8996, 0.9) == "0.8996"
    assert at_most_three_decimals(0.9, 0.9) == "0.9"
    assert at_most_three_decimals(0.8996, 0.5) == "0.9"
    assert at_most_three_decimals(16.9996, 13.0, 17.0) == "16.9996"
    assert at_most_three_decimals(2.4e-4, 2e-4) == "2.4e−4"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.90712, "0.907"),
        (-0.5, "−0.500"),
        (0.00493, "0.00493"),
        (1.2345e-7, "1.23e−7"),
        (0.0, "0"),
        (123.0, "123"),
        (12345.6, "12,346"),
        (None, ""),
        (float("nan"), ""),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


def test_numbers_are_told_so_that_they_say_something():
    assert [four_decimals(value) for value in (0.0, 0.123456, -2.5, 12345.6, 0.00012345)] == [
        "0.0000",
        "0.1235",
        "−2.5000",
        "1.235e+04",
        "0.0001234",
    ]


def test_a_score_stands_before_its_interval():
    assert with_interval(0.91249, 0.9, 1) == "0.912 [0.900, 1.000]"
    assert three_decimals(-0.0304) == "−0.030"
    assert three_decimals(float("nan")) == ""
