"""The built-in sets of questions, by name."""

import pandas as pd

from llm_figures.questions.airports import build_airports
from llm_figures.questions.arithmetic import build_arithmetic
from llm_figures.questions.elements import build_elements
from llm_figures.questions.facts import build_facts

SETS = {
    "facts": build_facts,
    "airports": build_airports,
    "elements": build_elements,
    "arithmetic": build_arithmetic,
}


def build_set(name: str) -> pd.DataFrame:
    """A built-in set: question, aliases (right answers), group (the relation), frame.

    The elements have wrong_answers, too.
    """
    return SETS[name]()
