"""Built-in questions of arithmetic in words, drawn with a fixed seed: seventeen plus twenty-six."""

from random import Random

import pandas as pd

SEED = 0
# Questions of each kind.
OF_A_KIND = 130
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def build_arithmetic() -> pd.DataFrame:
    """390 questions: sums, differences and products of small numbers, as digits and in words.

    Returns columns as `facts.build_facts`.
    """
    random = Random(SEED)
    sums = [(a, b) for a in range(2, 31) for b in range(a, 31)]
    products = [(a, b) for a in range(2, 13) for b in range(2, 21)]
    kinds = {
        "sum": (sums, lambda a, b: (a, b, a + b)),
        # from the sum back, so that no difference is negative
        "difference": (sums, lambda a, b: (a + b, a, b)),
        "product": (products, lambda a, b: (a, b, a * b)),
    }
    rows = []
    for kind, (pairs, calculate) in kinds.items():
        for pair in random.sample(pairs, OF_A_KIND):
            first, second, result = calculate(*pair)
            what = f"the {kind} of {spell_number(first)} and {spell_number(second)}"
            aliases = [str(result), spell_number(result)]
            rows.append((f"What is {what}?", aliases, kind, f"The{what[3:]} is"))
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def spell_number(number: int) -> str:
    """The words of a number below 1,000: two hundred forty-one."""
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" {spell_number(rest)}" if rest else "")
    if number < 20:
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else "")
