"""Built-in questions of arithmetic in words, drawn with a fixed seed."""

from random import Random

import pandas as pd

SEED = 0
LARGEST = 16
# {kind: its number of questions}. Of larger numbers, or of more differences, the default model gets
# next to none right.
KINDS = {"sum": 120, "product": 120, "difference": 60}
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def build_arithmetic() -> pd.DataFrame:
    """300 questions: sums, products and differences of numbers up to 16, with the answers as digits
    and in words.

    No two questions of a kind are about the same two numbers.

    Returns columns as `facts.build_facts`.
    """
    random = Random(SEED)
    pairs = [(a, b) for a in range(1, LARGEST + 1) for b in range(a, LARGEST + 1)]
    rows = []
    for kind, count in KINDS.items():
        for pair in random.sample(pairs, count):
            first, second = random.sample(pair, 2)
            one, other, result = {
                "sum": (first, second, first + second),
                "product": (first, second, first * second),
                # from the sum back, so that no difference is negative
                "difference": (first + second, second, first),
            }[kind]
            between = "between" if kind == "difference" else "of"
            what = f"the {kind} {between} {spell_number(one)} and {spell_number(other)}"
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
