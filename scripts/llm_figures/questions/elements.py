"""Built-in questions that compare two chemical elements, from periodictable at a pinned version.

Even small models answer some of these right: each has two answers to choose from.
"""

from collections.abc import Callable
from itertools import permutations
from random import Random

import pandas as pd

from llm_figures.questions.facts import LAST_ELEMENT

SEED = 0
# Questions of each kind.
OF_A_KIND = 160
# The larger value over the smaller one, at least: no question rests on an uncertain digit.
CLEAR_RATIO = 1.2
# Two spellings of one name.
SPELLINGS = {"aluminum": "aluminium", "cesium": "caesium", "sulfur": "sulphur"}


# Its white, red and black forms differ from 1.8 to 2.7 g/cm³.
OF_SEVERAL_DENSITIES = "phosphorus"


def build_elements() -> pd.DataFrame:
    """320 questions: the heavier of two elements, by atomic mass, and the denser.

    Returns columns as `facts.build_facts`, and wrong_answers, the names of the other element.
    """
    from periodictable import elements

    known = [element for element in elements if 1 <= element.number <= LAST_ELEMENT]
    kinds: dict[str, Callable] = {
        "heavier": lambda element: element.mass,
        "denser": _find_density,
    }
    random = Random(SEED)
    rows = []
    for kind, measure in kinds.items():
        values = {element.name: measure(element) for element in known if measure(element)}
        pairs = [
            (one, other)
            for one, other in permutations(values, 2)
            if max(values[one], values[other]) >= CLEAR_RATIO * min(values[one], values[other])
        ]
        random.shuffle(pairs)
        taken: set[frozenset] = set()
        for one, other in pairs:
            if len(taken) == OF_A_KIND:
                break
            if frozenset((one, other)) in taken:
                continue
            taken.add(frozenset((one, other)))
            what = f"the {kind} of {one} and {other}"
            wrong, right = sorted((one, other), key=values.get)
            names, others = (
                [name, *filter(None, [SPELLINGS.get(name)])] for name in (right, wrong)
            )
            rows.append((f"What is {what}?", names, others, kind, f"The{what[3:]} is"))
    columns = ["question", "aliases", "wrong_answers", "group", "frame"]
    return pd.DataFrame(rows, columns=columns)


def _find_density(element) -> float | None:
    """None where it depends on the form, or is given with a remark, as that of gases is."""
    if element.name == OF_SEVERAL_DENSITIES or element.density_caveat:
        return None
    return element.density
