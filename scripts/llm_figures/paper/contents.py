"""The files for a paper: results/{model}/paper/."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.result_folders import CLAIMS
from llm_figures.paper.floats import ALT, FigureFloat, find_folder, write_floats, write_settings
from llm_figures.paper.latex_text import LETTER, comment
from llm_figures.paper.macros import (
    MANIFEST,
    describe_macros,
    name_macros,
    read_numbers,
    state_claims,
    state_run,
    write_macros,
)
from llm_figures.paper.tables import write_claims_tables, write_probe_table

HEADER = "{what} of {model}, written by llm-figures {version}; docs/paper.md says how to use it."
# Tables of claims can be more floats in a row than LaTeX holds back, or puts on pages of their own.
MORE_FLOATS = r"\ifdefined\extrafloats\extrafloats{200}\fi\maxdeadcycles=1000"
FIRST = r"% \input{numbers} comes before this file"


def build_paper(
    model: str,
    figures: Mapping[str, tuple[dict, float]],
    claims: pd.DataFrame,
    scores: pd.DataFrame,
    probe: tuple[str, Sequence[str]],
    manifest: Mapping[str, Any],
    answers: pd.DataFrame | None,
    *,
    prefix: str = "",
    exact: bool = False,
    across: bool | None = None,
) -> dict[str, str]:
    """{name of a file: its content} of the LaTeX files and numbers.json.

    model: its name. figures: {name: (as from `read_stated`, width of its PDF in inches)}.
    claims: rows of claims.parquet. scores: of the probe. probe: metric and tokens of its table.
    manifest, answers: see `macros.state_run`. prefix: before every macro.
    exact, across: see `floats.write_floats`.

    Raises:
        UserError: two numbers whose macros would have one name, or results of another model.
    """
    described = manifest.get("model") or {}
    if described.get("name", model) != model:
        raise UserError(
            f"{MANIFEST} is of model {described['name']}, not {model}; remove it and run again"
        )
    if others := sorted(set(claims["model"]) - {model}):
        raise UserError(f"{CLAIMS} is of model {others[0]}, not {model}; remove it and run again")
    groups = {name: read_numbers(stated["numbers"]) for name, (stated, _) in figures.items()}
    named = name_macros(
        groups | {"claims": state_claims(claims), "run": state_run(manifest, answers)}, prefix
    )
    macros = {(group, number.name): macro for macro, (group, number) in named.items()}
    sources = {name: stated["source"] for name, (stated, _) in figures.items()}
    floats = [
        FigureFloat(
            name,
            stated["caption"],
            groups[name],
            {number: macros[name, number] for number in groups[name]},
            width,
        )
        for name, (stated, width) in figures.items()
    ]
    label = f"{prefix}:" if prefix else ""
    project = manifest.get("project") or {}

    def write(what: str, *parts: str) -> str:
        text = HEADER.format(what=what, model=model, version=project.get("version"))
        return "\n".join([f"% {comment(text)}", *parts]) + "\n"

    table = {
        macro: {"macro": f"\\{macro}", **facts}
        for macro, facts in describe_macros(
            named, sources | {"claims": CLAIMS, "run": MANIFEST}
        ).items()
    }
    return {
        "numbers.tex": write("Numbers", LETTER.strip(), *write_macros(named)),
        "claims.tex": write("Claims", LETTER, MORE_FLOATS, *write_claims_tables(claims, label)),
        "probe.tex": write("Probe", LETTER, *write_probe_table(scores, *probe, model, label)),
        "figures.tex": write(
            "Figures",
            FIRST,
            LETTER,
            ALT,
            write_settings(find_folder(prefix)),
            *write_floats(floats, label, exact, across, find_folder(prefix)),
        ),
        "numbers.json": json.dumps(table, indent=1, ensure_ascii=False) + "\n",
    }
