r"""Text and numbers as LaTeX that compiles under every engine, whatever the text holds.

Of the 1,204 characters that pylatexenc 2.11 encodes, 499 stop pdflatex with T1 fonts and no
further package: their commands are of packages such as amssymb, or of fonts for Cyrillic. Here
every command is one of LaTeX itself. A letter without one becomes \llmletter{number}{U+code}:
LuaLaTeX and XeLaTeX set the letter, pdflatex its code.
"""

import re
import unicodedata

# Used by the escaped text; every file begins with it.
LETTER = r"""\ifdefined\llmletter\else
\DeclareRobustCommand{\llmletter}[2]{\ifdefined\Umathchardef\char#1\relax\else\texttt{#2}\allowbreak\fi}
\fi
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "{}$&#_%"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "\xa0": "~",
    "\xad": r"\-",
    "‐": "-",
    "‑": r"\mbox{-}",
}
UNSET = "\\{}$&#_%~^"  # of these, the ones that an argument cannot hold
TEXT = {
    "–": "textendash", "—": "textemdash", "‘": "textquoteleft", "’": "textquoteright",
    "“": "textquotedblleft", "”": "textquotedblright", "‚": "quotesinglbase",
    "„": "quotedblbase", "«": "guillemotleft", "»": "guillemotright", "‹": "guilsinglleft",
    "›": "guilsinglright", "…": "textellipsis", "•": "textbullet", "·": "textperiodcentered",
    "†": "textdagger", "‡": "textdaggerdbl", "§": "textsection", "¶": "textparagraph",
    "©": "textcopyright", "®": "textregistered", "™": "texttrademark", "°": "textdegree",
    "€": "texteuro", "£": "textsterling", "¥": "textyen", "¢": "textcent",
    "¡": "textexclamdown", "¿": "textquestiondown", "␣": "textvisiblespace", "ß": "ss",
    "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "dj", "Đ": "DJ", "ð": "dh", "Ð": "DH", "þ": "th", "Þ": "TH", "ı": "i", "ŋ": "ng",
    "Ŋ": "NG",
}  # fmt: skip
MATHS = {
    "−": "-", "×": r"\times", "÷": r"\div", "±": r"\pm", "≤": r"\leq", "≥": r"\geq",
    "≠": r"\neq", "≈": r"\approx", "≡": r"\equiv", "∝": r"\propto", "∞": r"\infty",
    "√": r"\surd", "∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∂": r"\partial",
    "∇": r"\nabla", "∈": r"\in", "∉": r"\notin", "⊂": r"\subset", "⊆": r"\subseteq",
    "∪": r"\cup", "∩": r"\cap", "∅": r"\emptyset", "∀": r"\forall", "∃": r"\exists",
    "¬": r"\neg", "∧": r"\wedge", "∨": r"\vee", "⊕": r"\oplus", "⊗": r"\otimes",
    "‖": r"\|", "∥": r"\parallel", "⟨": r"\langle", "⟩": r"\rangle", "→": r"\rightarrow",
    "←": r"\leftarrow", "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "⇔": r"\Leftrightarrow",
    "↑": r"\uparrow", "↓": r"\downarrow", "⋅": r"\cdot", "∘": r"\circ", "′": "'",
    "ϵ": r"\epsilon", "ε": r"\varepsilon", "ϕ": r"\phi", "φ": r"\varphi", "ϑ": r"\vartheta",
    "ϱ": r"\varrho", "ς": r"\varsigma", "ο": "o", "µ": r"\mu", "ℓ": r"\ell",
}  # fmt: skip
GREEK = re.compile(
    "GREEK (SMALL|CAPITAL) LETTER (ALPHA|BETA|GAMMA|DELTA|EPSILON|ZETA|ETA|THETA|IOTA|KAPPA|LAMDA"
    "|MU|NU|XI|OMICRON|PI|RHO|SIGMA|TAU|UPSILON|PHI|CHI|PSI|OMEGA)"
)
# Greek capitals that look like Latin ones, for which LaTeX has no command.
LIKE_LATIN = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I",
    "KAPPA": "K", "MU": "M", "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
    "\u0328": "k", "\u0323": "d", "\u0331": "b",
}  # fmt: skip
# Two of them make another letter in the fonts, as -- makes a dash.
LIGATURES = re.compile(r"([-,'])(?=\1)")
NUMBER = re.compile(r"([-−+]?)(\d[\d,]*(?:\.\d+)?)(?:[eE]([-−+]?)0*(\d+))?(%?)")


def escape(text: object) -> str:
    """Text of any kind as LaTeX, on one line, for the text or a moving argument such as a caption.

    Control characters are written as Python does: \\x07. What takes no room is left out.
    """
    text = unicodedata.normalize("NFC", " ".join(str(text).split()))
    return "".join(map(_escape_letter, LIGATURES.sub("\\1\ue002", text)))


def escape_unset(text: object) -> str:
    """Text for an argument that is not typeset, such as an alternative text: letters stay.

    A reader that LaTeX hands it to, such as a tagged PDF's, knows no commands for ε or quotes.
    """
    text = " ".join(str(text).split())
    return "".join(
        escape(letter)
        if letter in UNSET or unicodedata.category(letter) in ("Cc", "Cf", "Cs")
        else letter
        for letter in text
    )


def _escape_letter(letter: str) -> str:
    if letter == "\ue002":  # between the two of a ligature; LuaTeX joins them across {}
        return "\\/"
    if letter in SPECIAL:
        return SPECIAL[letter]
    if " " <= letter <= "~":
        return letter
    if letter in TEXT:
        return f"\\{TEXT[letter]}{{}}"
    if maths := MATHS.get(letter) or _find_greek(letter) or _find_raised(letter):
        return f"\\ensuremath{{{maths}}}"
    kind = unicodedata.category(letter)
    if kind == "Zs":
        return " "
    if kind == "Cf":
        return ""
    if kind in ("Cc", "Cs"):
        return escape(repr(letter)[1:-1])
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS:
        return f"\\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"\\llmletter{{{ord(letter)}}}{{U+{ord(letter):04X}}}"


def _find_greek(letter: str) -> str | None:
    found = GREEK.fullmatch(unicodedata.name(letter, ""))
    if found is None:
        return None
    size, name = found.groups()
    name = name.replace("LAMDA", "LAMBDA")
    if size == "CAPITAL":
        latin = LIKE_LATIN.get(name)
        return f"\\mathrm{{{latin}}}" if latin else f"\\{name.capitalize()}"
    return f"\\{name.lower()}"


def _find_raised(letter: str) -> str | None:
    """Superscripts and subscripts of letters and digits: ², ₂, ᵢ."""
    kind, _, code = unicodedata.decomposition(letter).partition(" ")
    sign = {"<super>": "^", "<sub>": "_"}.get(kind)
    base = chr(int(code, 16)) if sign and " " not in code else ""
    return f"{sign}{{{base}}}" if base.isascii() and base.isalnum() else None


def set_number(text: str) -> str:
    """A printed number as LaTeX, the same in text and in maths; any other text escaped.

    1,023 keeps its comma without the space of maths, and 1e-05 becomes a power of ten.
    """
    found = NUMBER.fullmatch(text)
    if found is None:
        return escape(text)
    sign, digits, below, power, percent = found.groups()
    digits, percent = digits.replace(",", "{,}"), percent.replace("%", r"\%")
    minus = "-" if sign in ("-", "−") else sign
    if power is not None:
        exponent = f"10^{{{below and below.replace('−', '-').replace('+', '')}{power}}}"
        mantissa = "" if digits == "1" else f"{digits}\\times "
        return f"\\ensuremath{{{minus}{mantissa}{exponent}}}{percent}"
    return f"\\ensuremath{{{minus}{digits}}}{percent}" if minus else f"{digits}{percent}"


def comment(text: object) -> str:
    """Text for a comment, on one line of printable letters."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
