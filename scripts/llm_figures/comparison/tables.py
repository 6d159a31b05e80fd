"""Read the tables of several models, leaving out those that cannot be compared."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.core.parquet_tensors import read_frame


def read_usable_tables(
    models: Mapping[str, str],
    missing: Sequence[str],
    find_problem: Callable[[pd.DataFrame], str | None],
    what: str,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables by model, and one line for each that is left out.

    models: files by model. missing: files that result folders lack. find_problem: returns why a
    table cannot be compared, or None. what: the figure, for the error.

    Raises:
        UserError: fewer than two tables remain, or a file is damaged.
    """
    tables, left_out = {}, [f"{path} is missing" for path in missing]
    for name, path in models.items():
        table = read_frame(path)
        if problem := find_problem(table):
            left_out.append(f"{path} {problem}")
        else:
            tables[name] = table
    for line in left_out:
        log.info("left out: %s", line)
    if len(tables) < 2:
        raise UserError(
            f"{what}: a comparison needs at least two models; there is "
            f"{', '.join(tables) or 'none'} ({'; '.join(left_out)})"
        )
    return tables, left_out
