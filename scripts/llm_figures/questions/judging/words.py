"""Texts as words and quantities that can be compared.

Case, accents and punctuation do not count, and numbers are read by value, so that 7 is not found in
7/8, 12:30, 3.7 or 17. Which spellings are equal beyond that is a matter of named rules (`rules`).
"""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import regex

from llm_figures.questions.judging.plain_text import MULTIPLIERS, write_plainly
from llm_figures.questions.judging.quantities import (
    Quantity,
    add_parts,
    find_currency,
    find_unit,
)
from llm_figures.questions.writing_systems import UNSPACED

# Letters that differ from a plain one by a stroke or a dot, which Unicode does not decompose.
_STROKES = str.maketrans({**dict(zip("łøđħŧı", "lodhti", strict=True)), "æ": "ae", "œ": "oe"})

_NUMBER = regex.compile(
    r"""
    (?P<digits>
      \d{1,3}(?:[,\u066c'’]\d{3})+(?![,\d]*\d)       # 1,000
      | \d{1,3}(?:\ \d{3})+(?!\d)                     # 1 000
      | \d+ | (?=\.\d))
    (?P<decimals>(?:\.\d+)*)
    (?:[eE](?P<exponent>[-+]?\d{1,3})(?![\w.]))?
    """,
    regex.VERBOSE,
)
_MULTIPLIER = regex.compile(
    r"\s?(?:-?(dozen|hundred|thousand|million|billion|trillion)s?\b|((?<=\d)k|bn|mn)\b|([万萬亿億]))",
    regex.IGNORECASE,
)
_POWER = regex.compile(r"\^(-?\d{1,2})(?![\w.^])")
_LONGEST_NUMBER = 300
_FRACTION = regex.compile(r"(?:\s?[-+]?\s?(?P<numerator>\d+))?\s?[/⁄]\s?(?P<denominator>[1-9]\d*)")
_TOKEN = regex.compile(
    rf"""
    (?P<unspaced>[{UNSPACED}])
    | (?P<joined>\d+(?::\d+)+h?(?!\w) | \d+(?:[/⁄]\d+){{2,}} | \d+(?:-\d+){{2,}})  # 12:30
    | (?P<ordinal>\d[\d,]*(?:st|nd|rd|th|s)(?!\w))
    | (?P<sign>(?<![^\s(\[{{"'“‘«=:,;<>≈~*_^$€£/])[-−+](?=[$€£¥₹₽.\d]))?
      (?:(?P<currency>[$€£¥₹₽]|\b(?:US|A|C|NZ|HK)\$)\s?)?
      (?P<number>(?<![[\p{{L}}\p{{M}}_]--[{UNSPACED}]])(?<!\d\.)(?:\d|(?<![\p{{L}}\d.])\.\d))
    | (?P<signed>\b[A-Z][a-z]?[A-Z]?[+-](?![\w+-]))                        # A+, Na+
    | (?P<word>\p{{L}}(?:[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]|['’‘ʻʼ`](?=\p{{L}})|(?<=\d)\.(?=\d))*
        (?:(?<=\b[CF])(?:\+\+|\#))?)
    """,
    regex.VERBOSE | regex.V1,
)
_UNIT = regex.compile(
    r"(?:\sof an?\s|\s{0,2}|-)(?P<first>[\p{L}µ°Ω%‰][\p{L}µ]*\.?(?:\^?[23](?!\d))?)"
    r"(?P<second>\s?(?:/|per\s|an?\s|\s)\s?[\p{L}]+(?:\^?[23](?!\d))?)?"
    r"(?P<third>\s?(?:/|per\s|\s)\s?[\p{L}]+)?"
)
_ABBREVIATIONS = {
    "st": "saint", "mt": "mount", "ft": "fort", "bros": "brothers", "jr": "junior",
    "sr": "senior", "dr": "doctor", "prof": "professor", "gen": "general", "vs": "versus",
    "co": "company", "corp": "corporation", "govt": "government", "vol": "volume",
    "tv": "television", "univ": "university",
}  # fmt: skip
_ERAS = {"bce": "bc", "ce": "ad"}
_STATES = {
    "US": "united states", "USA": "united states", "UK": "united kingdom", "UN": "united nations",
    "EU": "european union", "NYC": "new york city", "UAE": "united arab emirates",
    "USSR": "soviet union",
}  # fmt: skip
# Plurals that inflect does not know.
_SINGULARS = {"mitochondria": "mitochondrion", "spermatozoa": "spermatozoon"}
ARTICLES = ("the", "a", "an")


@dataclass(frozen=True)
class Token:
    """A word, folded, or a quantity. text: as written. gap: what stands before it."""

    key: str | Quantity
    text: str
    gap: str


@lru_cache(8192)
def tokenise(text: str, rules: Collection[str]) -> tuple[Token, ...]:
    """The words and quantities of `text`, articles among them. rules: those to apply.

    A comma between groups of three digits joins them ("3,000"); any other separates two numbers
    ("1,5" is 1 and 5). A stop before digits is a decimal point; several separate numbers
    ("24.12.1914"). A minus sign directly precedes a number and follows a space or an opening
    bracket. Times, ratios, ordinals, decades and digits within a word ("12:30", "7th", "1990s",
    "H2O") are words. In scripts without spaces, every character is a word.
    """
    plain = write_plainly(text, rules)
    tokens: list[Token] = []
    end = 0
    while match := _TOKEN.search(plain, end):
        gap, start = plain[end : match.start()], match.start()
        end = match.end()
        if match["number"]:
            keys, end = _read_number(plain, match, rules)
        elif match["word"]:
            keys = _read_word(match["word"], plain[end : end + 1], rules)
        else:
            keys = [match[0].casefold().replace("−", "-")]
        for key in keys:
            tokens.append(Token(key, plain[start:end], gap))
            gap = " "
    if "units" in rules:
        tokens = _join_measures(tokens)
    return tuple(_join_initials(tokens) if "initials" in rules else tokens)


def same_time(one: str, other: str) -> bool:
    """Whether two times of day are the same, where one may lack a.m. or p.m.: "3:00", "15:00h".

    `tokenise` ends those that have it with an h.
    """
    times = [regex.fullmatch(r"(\d{1,2}):(\d\d)(h?)", text) for text in (one, other)]
    if not all(times) or times[0][2] != times[1][2]:
        return False
    hours = [int(time[1]) for time in times]
    known = [bool(time[3]) or not 1 <= int(time[1]) <= 12 for time in times]
    return hours[0] == hours[1] or (not all(known) and (hours[0] - hours[1]) % 12 == 0)


def fold(word: str) -> str:
    """A word without case, accents, apostrophes and strokes."""
    plain = unicodedata.normalize("NFKD", word).casefold()
    plain = "".join(char for char in plain if not _is_accent(char) and char not in "'’‘ʻʼ`.")
    # a nasal before a consonant is written in two ways: हिन्दी, हिंदी
    plain = regex.sub(r"[ङञणनम]\u094d(?=[क-ह])", "\u0902", plain)
    return unicodedata.normalize("NFC", plain).translate(_STROKES)


@lru_cache(16384)
def find_singular(word: str) -> str:
    """The singular of an English noun; the word itself if it has none."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    return _SINGULARS.get(word) or _inflect().singular_noun(word) or word


def _read_number(plain: str, match, rules: Collection[str]) -> tuple[list[str | Quantity], int]:
    """The keys of the number that begins at match["number"], and where it ends."""
    number = _NUMBER.match(plain, match.start("number"))
    end = number.end()
    digits = number["digits"]
    if " " in digits and "thousands" not in rules:
        digits = digits.split(" ")[0]
        number = None
        end = match.start("number") + len(digits)
    decimals = number["decimals"] if number else ""
    if decimals.count(".") > 1:  # 24.12.1914
        parts = (digits + decimals).split(".")
        return [Quantity(Fraction(part)) for part in parts if part], end
    if len(digits) + len(decimals) > _LONGEST_NUMBER:
        return [digits + decimals], end
    value = Fraction((regex.sub(r"\D", "", digits) or "0") + (decimals or ""))
    if number and number["exponent"]:
        value *= Fraction(10) ** int(number["exponent"])
    if power := _POWER.match(plain, end):
        if value == 0 and power[1].startswith("-"):
            return [plain[match.start("number") : power.end()]], power.end()
        value **= int(power[1])
        end = power.end()
    if fraction := _FRACTION.match(plain, end):
        if len(fraction[0]) > _LONGEST_NUMBER:
            return [plain[match.start("number") : fraction.end()]], fraction.end()
        below = Fraction(fraction["denominator"])
        over = fraction["numerator"]
        if over is None or plain[end : end + 1] in " -+":
            if "fractions" not in rules:
                return [plain[match.start("number") : fraction.end()]], fraction.end()
            value = value / below if over is None else value + Fraction(over) / below
            end = fraction.end()
    if multiplier := _MULTIPLIER.match(plain, end):
        name = next(group for group in multiplier.groups() if group).casefold()
        if "thousands" not in rules:
            return [Quantity(value), name], multiplier.end()
        value *= MULTIPLIERS[name]
        end = multiplier.end()
    if match["sign"] and match["sign"] in "-−":
        value = -value
    # "H2O" and "2nd" are words, and so is "3D"; "5km" is not
    unit, unit_end = _read_unit(plain, end)
    attached = regex.match(r"[\p{L}\p{M}]", plain[end : end + 1]) and not regex.match(
        f"[{UNSPACED}]", plain[end : end + 1]
    )
    if attached and not (unit and unit_end > end):
        whole = regex.match(r"[\p{L}\p{M}\p{N}]*", plain, pos=end)
        return [fold(plain[match.start("number") : whole.end()])], whole.end()
    if "units" not in rules:
        return [Quantity(value)], end
    if match["currency"]:
        return [Quantity(value, find_currency(match["currency"][-1]) or "")], end
    return [Quantity(value, unit or "")], unit_end if unit else end


def _read_unit(plain: str, end: int) -> tuple[str | None, int]:
    """The unit that follows a number, and where it ends."""
    match = _UNIT.match(plain, end)
    if match is None:
        for sign in "€$£元円":
            if regex.match(rf"\s?\{sign}", plain[end:]):
                return find_currency(sign), end + plain[end:].index(sign) + 1
        return None, end
    for last in ("third", "second", "first"):
        if match[last]:
            stop = match.end(last)
            if unit := find_unit(plain[match.start("first") : stop].rstrip(".")):
                return unit, stop
    return None, end


def _read_word(word: str, after: str, rules: Collection[str]) -> list[str | Quantity]:
    plain = fold(word)
    if not plain:
        return []
    if (
        "roman_numerals" in rules
        and len(word) > 1
        and regex.fullmatch(r"X{0,3}(IX|IV|V?I{0,3})", word)
    ):
        return [Quantity(Fraction(_read_roman(word)))]
    if "abbreviations" in rules:
        if word in _STATES:
            return list(_STATES[word].split())
        if plain in _ABBREVIATIONS and (after == "." or word[0].isupper()):
            return [_ABBREVIATIONS[plain]]
        if word.isupper() and plain in _ERAS:
            return [_ERAS[plain]]
    return [plain]


def _read_roman(word: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[char] for char in word]
    return sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))


def _join_measures(tokens: list[Token]) -> list[Token]:
    """ "5 ft 11 in" and "1 hour and 30 minutes" as one quantity each."""
    joined: list[Token] = []
    for token in tokens:
        linked = bool(joined) and token.gap.strip() in ("", ",")
        if linked and joined[-1].key == "and" and len(joined) > 1:
            # "8 dollars and 25 cents"
            whole = joined[-2].key
            parts = isinstance(whole, Quantity) and isinstance(token.key, Quantity)
            if parts and (total := add_parts(whole, token.key)) is not None:
                last = joined[-2]
                joined[-2:] = [Token(total, f"{last.text} and {token.text}", last.gap)]
                continue
        last = joined[-1] if linked else None
        # "5 ft 11": inches are no unit by themselves ("5 in 10")
        if last is not None and token.key in ("in", "inch", "inches") and len(joined) > 1:
            whole, part = joined[-2].key, last.key
            if isinstance(whole, Quantity) and isinstance(part, Quantity) and not part.unit:
                last = joined.pop()
                token = Token(Quantity(part.value, "inch"), f"{last.text} {token.text}", last.gap)
                last = joined[-1]
        if (
            last is not None
            and isinstance(last.key, Quantity)
            and isinstance(token.key, Quantity)
            and (total := add_parts(last.key, token.key)) is not None
        ):
            joined[-1] = Token(total, f"{last.text} {token.text}", last.gap)
        else:
            joined.append(token)
    return joined


def _join_initials(tokens: list[Token]) -> list[Token]:
    """ "A. B. Carter" and "A.B. Carter" as "AB Carter"; "U.S.A." as "USA"."""
    joined: list[Token] = []
    run: list[Token] = []
    for token in [*tokens, None]:
        single = (
            token is not None and len(token.text) == 1 and token.text.isupper()
            and (not run or token.gap.strip() in ("", "."))
        )  # fmt: skip
        if single:
            run.append(token)
            continue
        if len(run) > 1:
            letters = "".join(one.text for one in run)
            keys = _STATES.get(letters, fold(letters)).split()
            joined += [Token(key, letters, run[0].gap) for key in keys]
        else:
            joined += run
        run = []
        if token is not None:
            joined.append(token)
    return joined


def _is_accent(char: str) -> bool:
    """Whether `char` is an accent or an optional vowel point.

    Combining classes below 10 and from 84 to 199 distinguish words: the voicing marks of kana, the
    vowel signs and vowel killers of Indian and Thai scripts.
    """
    combining = unicodedata.combining(char)
    return 10 <= combining < 84 or combining >= 200


@cache
def _inflect():
    import inflect

    engine = inflect.engine()
    engine.classical(all=True)  # bacteria, phenomena
    return engine
