"""A LaTeX document compiled for real, and the text of its PDF."""

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


def plain(text):
    """Text as it is compared: no spaces and line ends, one kind of minus sign and of dash."""
    text = unicodedata.normalize("NFKC", text)
    # a power of ten is a number with e in Python, and a smaller number in a PDF
    text = re.sub(r"(?<!\d)1e-0*(\d)", r"10-\1", text)
    text = re.sub(r"(\d)e-0*(\d)", r"\1×10-\2", text)
    text = text.translate(str.maketrans("‖∆’", "∥Δ'"))
    return re.sub(r"\s", "", re.sub("[−‐–]", "-", text))
