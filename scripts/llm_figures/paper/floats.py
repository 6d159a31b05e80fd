r"""The figures as floats of LaTeX, with caption, label and alternative text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_figures.core.alt_text import make_alt_text
from llm_figures.core.errors import UserError
from llm_figures.core.stated_numbers import CLOSING, OPENING, StatedNumber
from llm_figures.paper.latex_text import escape, escape_unset

# Graphics packages of before 2021 know no alternative text.
ALT = r"""\makeatletter
\@ifundefined{KV@Gin@alt}{\define@key{Gin}{alt}{}}{}
\makeatother
"""
# A document may set these before: where the folder is, and the room for a figure. By default the
# folder is that of figures.tex itself, so that two models never show each other's figures.
SETTINGS = r"""\providecommand{\CurrentFilePath}{}
\ifdefined\llmfolder\else
\edef\llmfolder{\ifx\CurrentFilePath\empty paper\else\CurrentFilePath\fi}
\fi
\providecommand{\llmwidth}{\linewidth}
\providecommand{\llmheight}{0.6\textheight}
"""
FOLDER = r"\llmfolder"
MARK = re.compile(f"{OPENING}(.*?){CLOSING}")
BOX = re.compile(rb"/MediaBox \[ *([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) *\]")
# A figure that is wider, in inches, is set over both columns of a page.
COLUMN = 4.5


@dataclass(frozen=True)
class FigureFloat:
    """One figure. template: see `captions.make_caption`. width: of its PDF, in inches."""

    name: str
    template: str
    numbers: Mapping[str, StatedNumber]
    macros: Mapping[str, str]  # {name of a number: its macro}
    width: float


def find_folder(prefix: str) -> str:
    """The macro of the folder of one model. prefix: before its other macros."""
    return f"{FOLDER}{prefix}"


def write_settings(folder: str) -> str:
    """Lines before the floats. folder: as from `find_folder`."""
    return SETTINGS.replace(FOLDER, folder)


def write_floats(
    figures: list[FigureFloat], label: str, exact: bool, across: bool | None, folder: str
) -> Iterator[str]:
    """Lines of figures.tex.

    label: before all labels. exact: whether figures are drawn at the size they are to have, so
    that nothing scales them. across: whether they span both columns; None decides by their width.
    folder: as from `find_folder`.
    """
    for figure in figures:
        wide = across if across is not None else figure.width > COLUMN
        kind = "figure*" if wide else "figure"
        filled = MARK.sub(lambda mark, own=figure.numbers: own[mark[1]].text, figure.template)
        size = "" if exact else r"width=\llmwidth,height=\llmheight,keepaspectratio,"
        yield from (
            f"\\begin{{{kind}}}[tp]",
            r"\centering",
            f"\\includegraphics[{size}alt={{{escape_unset(make_alt_text(filled))}}}]"
            f"{{{folder}/figures/{figure.name}.pdf}}",
            f"\\caption{{{set_caption(figure)}}}",
            f"\\label{{fig:{label}{figure.name}}}",
            f"\\end{{{kind}}}",
            "",
        )


def set_caption(figure: FigureFloat) -> str:
    """The caption as LaTeX, with the macro of each number in its place."""
    pieces = MARK.split(figure.template.strip())
    for place in range(1, len(pieces), 2):
        pieces[place] = f"\\{figure.macros[pieces[place]]}{{}}"
    for place in range(0, len(pieces), 2):
        text = pieces[place]
        left, right = text[:1].isspace(), text[-1:].isspace()
        pieces[place] = f"{' ' * left}{escape(text)}{' ' * (right and bool(text.strip()))}"
    return "".join(pieces)


def measure_width(pdf: bytes, path: str) -> float:
    """The width of a PDF's first page in inches.

    Raises:
        UserError: it is no PDF with such a page.
    """
    found = BOX.search(pdf)
    if found is None:
        raise UserError(f"{path} is no PDF of a figure; remove it and run again")
    left, _, right, _ = map(float, found.groups())
    return (right - left) / 72
