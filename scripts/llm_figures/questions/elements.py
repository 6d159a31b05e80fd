"""Built-in questions about chemical elements beyond those of the facts.

Masses are from periodictable at a pinned version. Periods and groups follow from the atomic numbers
of the noble gases: a period ends with one.
"""

from bisect import bisect_left

import pandas as pd

from llm_figures.questions.facts import LAST_ELEMENT

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
# Lanthanides and actinides: which of them is below scandium and yttrium, in group 3, is disputed.
RARE_EARTHS = {*range(57, 72), *range(89, 104)}


def build_elements() -> pd.DataFrame:
    """About 480 questions: an element by its symbol or number, its period, group and mass.

    Returns columns as `facts.build_facts`.
    """
    from periodictable import elements

    rows = []
    for element in elements:
        if not 1 <= element.number <= LAST_ELEMENT:
            continue
        number, name = element.number, element.name
        asked = {
            "element of symbol": (f"the element with the chemical symbol {element.symbol}", [name]),
            "element of number": (f"the element with the atomic number {number}", [name]),
            "period": (f"the period of {name} in the periodic table", [str(find_period(number))]),
            "atomic mass": (f"the atomic mass of {name}", _round_mass(element.mass)),
        }
        if number not in RARE_EARTHS:
            asked["element group"] = (
                f"the group of {name} in the periodic table",
                [str(find_group(number))],
            )
        for group, (what, aliases) in asked.items():
            rows.append((f"What is {what}?", aliases, group, f"{what[0].upper()}{what[1:]} is"))
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def find_period(number: int) -> int:
    """The period of an element, from 1."""
    return bisect_left(NOBLE_GASES, number) + 1


def find_group(number: int) -> int:
    """The group of an element that is no rare earth, from 1 to 18."""
    if number == 2:
        return 18
    period = find_period(number)
    begin = (0, *NOBLE_GASES)[period - 1]
    end = NOBLE_GASES[period - 1]
    # the first two groups are counted from the left, all others from the noble gas
    return number - begin if number - begin <= 2 and number > 1 else 18 - (end - number)


def _round_mass(mass: float) -> list[str]:
    """A mass to three, two, one and no decimals."""
    return list(dict.fromkeys(f"{mass:.{decimals}f}" for decimals in (3, 2, 1, 0)))
