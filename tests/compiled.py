"""A LaTeX document compiled for real, and the text of its PDF."""

import json
import os
import re
import shutil
import subprocess
import unicodedata

import pytest

PREAMBLE = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern,graphicx,booktabs,hyperref}
\hyphenpenalty=10000
"""


def require_latex():
    """Skip without LaTeX, or fail where it is required."""
    missing = [name for name in ("pdflatex", "pdftotext") if shutil.which(name) is None]
    if not missing:
        return
    reason = (
        f"{' and '.join(missing)} not found; Debian: apt-get install texlive-latex-base "
        "texlive-latex-recommended lmodern poppler-utils"
    )
    if os.environ.get("CI") or os.environ.get("LLM_FIGURES_REQUIRE_LATEX"):
        pytest.fail(reason)
    pytest.skip(reason)


def compiled(folder, preamble, body, passes=1):
    """The text of a document, in the order of its pages. Any error of LaTeX fails."""
    document = f"{PREAMBLE}{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "main.tex").write_text(document)
    for _ in range(passes):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        log = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, log[-3000:]
    read = ["pdftotext", "-raw", "main.pdf", "-"]
    text = subprocess.run(read, cwd=folder, capture_output=True, check=True).stdout.decode()
    return text, log


# No word is divided in what follows.
WHOLE_WORDS = r"\begingroup\raggedright\hyphenpenalty10000\exhyphenpenalty10000"


def plain(text):
    """Text as it is compared: no spaces and line ends, one kind of minus sign and of dash."""
    text = re.sub("[−‐–]", "-", unicodedata.normalize("NFKC", text))
    # a power of ten is a number with e in Python, and a smaller number in a PDF
    text = re.sub(r"(?<![\d.])1e-0*(\d)", r"10-\1", text)
    text = re.sub(r"(\d)e-0*(\d)", r"\1×10-\2", text)
    return re.sub(r"\s", "", text.translate(str.maketrans("‖∆’", "∥Δ'")))


def compile_paper(paper, folder):
    """Check that a document of a folder of `snakemake paper` compiles, and reads back its numbers.

    Every macro is read back from the text and from a caption; figures and tables are all there.
    Returns {macro: content of numbers.json}, and the text of the document's own pages.
    """
    numbers = json.loads((paper / "numbers.json").read_text())
    shutil.copytree(paper, folder / "paper")
    lines = [rf"{name} is \{name}{{}};" for name in numbers]
    captions = [
        rf"\begin{{table}}[p]\caption{{\protect\raggedright {line}}}\end{{table}}\clearpage"
        for line in ("\n".join(lines[at : at + 60]) for at in range(0, len(lines), 60))
    ]
    after = [r"\endgroup", r"\twocolumn"]
    parts = [f"\\input{{paper/{name}}}\\clearpage" for name in ("figures", "probe", "claims")]
    text, log = compiled(
        folder,
        r"\input{paper/numbers}",
        "\n\n".join([r"\onecolumn", WHOLE_WORDS, *lines, r"\clearpage", *captions, *after, *parts]),
        passes=2,
    )
    assert "undefined references" not in log
    found = plain(text)
    for name, number in numbers.items():
        assert found.count(plain(f"{name} is {number['text']};")) == 2, (name, number["text"])
    return numbers, text
