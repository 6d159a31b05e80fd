"""What is written for a paper, in a real LaTeX: text of any kind survives, and nothing stops it."""

import re
import unicodedata

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure

import report_files
from compiled import compiled, plain, require_latex
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.paper.contents import MORE_FLOATS
from llm_figures.paper.floats import (
    ALT,
    FigureFloat,
    find_folder,
    write_floats,
    write_settings,
)
from llm_figures.paper.latex_text import LETTER, escape
from llm_figures.paper.macros import name_macros, write_macros
from llm_figures.paper.tables import write_claims_tables, write_probe_table

pytestmark = pytest.mark.latex
# Text that a caption, a claim of the user's or a token may hold.
TEXTS = [
    r"a & b_c % d # e $ f ~ g ^ h \ i { j } k",
    "ε − ≥ ≤ ρ × ‖W‖_F √d_in σᵢ² Σ Δ → ≈ ±",
    "0.1–0.2, “quoted” ‘so’ … — it's \"plain\" `tick` -- --- ,, ''",
    "Łódź, Škoda, Ærø, garçon, naïve, Straße, señor, ő, ą",
    r"\newcommand{\x}{1} \input{none} \end{document} %",
    "<script> | a > b?",
    "[x] *y* a@b.c/d:e;f!g?`h=+",
]


@pytest.fixture(autouse=True)
def latex():
    require_latex()


def test_texts_of_any_kind_are_read_back_from_text_caption_and_heading(tmp_path):
    parts = [
        rf"A{n}: {tex} \begin{{figure}}[h]\caption{{B{n}: {tex} :E}}\end{{figure}}"
        rf"\section{{C{n}: {tex} :E}}"
        for n, tex in enumerate(map(escape, TEXTS))
    ]
    text, _ = compiled(tmp_path, LETTER, "\\listoffigures " + "\n\n".join(parts), passes=2)
    for number, given in enumerate(TEXTS):
        for part in (f"A{number}: {given}", f"B{number}: {given} :E", f"C{number}: {given} :E"):
            assert plain(part) in plain(text), part


def test_letters_that_latex_cannot_set_are_named_and_stop_nothing(tmp_path):
    """Every letter of the first planes that is assigned, but for ideographs of which a few do."""
    letters = [
        chr(code)
        for code in range(0x1, 0x3000)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs")
    ] + list("中文字形ハ한😀\U0001d49c\ufffd\ufeff\ue000")
    lines = [f"N{ord(letter):X} {escape(letter)}" for letter in letters]
    text, _ = compiled(tmp_path, LETTER, "\n\n".join(lines))
    found = plain(text)
    for letter, name in (("中", "U+4E2D"), ("ж", "U+0436"), ("😀", "U+1F600"), ("ế", "U+1EBF")):
        assert f"N{ord(letter):X}{name}" in found
    # most of what authors in Latin scripts write is set as it is
    for letter in "ÀÉÎõüçřğżľŐœ§°αβγωΓΩ∈∞":
        assert f"N{ord(letter):X}{plain(letter)}" in found, letter


def test_each_model_of_a_document_shows_its_own_figures(tmp_path):
    caption = f"{' '.join(TEXTS)} 中 \x00 ]"
    for name in ("small", "large"):
        folder = tmp_path / "with_figures" / name
        (folder / "figures").mkdir(parents=True)
        picture = Figure((2, 1))
        picture.text(0.1, 0.5, f"picture {name}")
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            picture.savefig(folder / "figures" / "a.pdf")
        macro = find_folder(name)
        floats = write_floats([FigureFloat("a", caption, {}, {}, 2)], name, True, False, macro)
        lines = "\n".join([LETTER, ALT, write_settings(macro), *floats])
        (folder / "figures.tex").write_text(lines)
    files = [rf"\input{{with_figures/{name}/figures}}" for name in ("small", "large")]
    text, _ = compiled(tmp_path, "", "\n".join(files))
    assert "picture small" in text
    assert "picture large" in text
    # alternative text keeps its letters; commands in it would be read aloud
    assert r"alt={a \& b\_c \% d \# e \$ f \textasciitilde{} g" in lines
    assert r"k ε − ≥ ≤ ρ × ‖W‖\_F √d\_in σᵢ² Σ" in lines.split(r"\caption")[0]


def test_tables_fit_a_page_of_one_column(tmp_path):
    scores = report_files.probe_scores().replace({"last_q": "exact_answer_before_first"})
    tokens = ["exact_answer_before_first", *report_files.TOKENS[1:]]
    probe = write_probe_table(scores, "auc", tokens, "smollm2-135m", "")
    claims = report_files.claims().assign(value=-0.0123, low=-0.0456, high=0.0001)
    # as where the texts are too long for a map of single tokens
    reason = "a text of 300 tokens is shown in bins, in which no single column or row is seen"
    claims = pd.concat([claims, *[claims.assign(reason=reason, verdict="not applicable")] * 9])
    claims.loc[claims["claim"] == claims["claim"].iloc[0], "statement"] = "中文字形" * 40
    lines = [LETTER, MORE_FLOATS, *probe, *write_claims_tables(claims, "")]
    text, log = compiled(
        tmp_path, r"\usepackage[textwidth=5.5in]{geometry}", "\n".join([r"\onecolumn", *lines])
    )
    assert "p(true)" in text
    assert plain(f"not applicable: {reason}") in plain(text)
    assert "Overfull" not in log
    assert "too large" not in log


def test_macros_are_read_back_from_text_maths_and_captions(tmp_path):
    numbers = StatedNumbers()
    values = [0.87131, -0.0301, 1023, 1.2e-5, 1e-10, 123456.7, 0]
    forms = [".3f", ".3f", ",", ".4g", "g", ",.0f", "g"]
    for number, (value, form) in enumerate(zip(values, forms, strict=True)):
        numbers.add(f"value_{number}", value, form, "planted: 50% of # & \x07 \n ε")
    numbers.add("absent", float("nan"), ".3f", "none")
    named = name_macros({"fig_2": numbers})
    (tmp_path / "numbers.tex").write_text("\n".join(write_macros(named)))
    places = ["{}", "${}$", r"\begin{{figure}}[h]\caption{{{}}}\end{{figure}}"]
    body = "\n\n".join(
        place.format(rf"\mbox{{{macro} is \{macro}{{}};}}") for place in places for macro in named
    )
    text, _ = compiled(tmp_path, r"\input{numbers}", f"\\listoffigures {body}", passes=2)
    for macro, (_, number) in named.items():
        assert re.fullmatch("FigTwo[A-Za-z]+", macro)
        # and once more in the list of figures
        assert plain(text).count(plain(f"{macro} is {number.text};")) == 4, macro
