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

from llm_figures.questions.judging.quantities import (
    Quantity,
    add_parts,
    find_currency,
    find_unit,
)
from llm_figures.questions.scripts import UNSPACED

# Letters that differ from a plain one by a stroke or a dot, which Unicode does not decompose.
_STROKES = str.maketrans({**dict(zip("łøđħŧı", "lodhti", strict=True)), "æ": "ae", "œ": "oe"})
# "10²" is not 102, "3½" not 31/2; "H₂O" stays one word.
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = regex.compile(r"(?<=[\p{L}\p{N})\]])[⁰¹²³⁴-⁹⁻⁺]+")
_VULGAR = regex.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_HIDDEN = regex.compile(r"[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")

_LATEX = [
    (regex.compile(pattern), new)
    for pattern, new in (
        (r"\$(?!\s)([^$]+?)(?<!\s)\$(?!\d)", r" \1 "),
        (r"\{,\}|(?<=\d)\\[,!;: ](?=\d{3})", ","),
        (r"(?<=[\w)])(?=\\[dt]?frac)", " "),
        (r"-\s*\\[dt]?frac\s*\{\s*-\s*(\d+)\s*\}", r"\\frac{\1}"),
        (r"\\[dt]?frac\s*\{?\s*(-?\d+)\s*\}?\s*\{?\s*(\d+)\s*\}?", r"\1/\2 "),
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b", "°"),
        (r"\\([$%#&_])", r"\1"),
        (r"\\(?:left|right|displaystyle)\b|\\[,;:! ]|\\[()\[\]]", " "),
        (r"(?<=\d)\s*(?:\\times|\\cdot|×|x|\*)\s*10\s*\^\s*\{?\s*([-+]?\d+)\s*\}?", r"e\1"),
        (r"\^\s*\{([^{}]*)\}", r"^\1"),
        (r"(?<=\d)_\{?(\d+)\}?(?![\d}])", r" base \1 "),  # 101_2
        (r"(?<=\p{L})_\{?(\w+)\}?", r"\1"),  # H_2O
    )
]
_MONTHS = (
    "january february march april may june july august september october november december".split()
)
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?(?![\d:.,/]*\d)"
_YEAR = r"(?P<year>\d{4})(?!\d|-\d)"
_DATES = [
    regex.compile(pattern, regex.IGNORECASE)
    for pattern in (
        rf"(?<![\w.]){_MONTH}\s+(?:the\s+)?{_DAY}(?:(?:\s*,\s*|\s+(?:of\s+)?){_YEAR})?",
        rf"(?<![\w.,]){_DAY}\s+(?:of\s+)?{_MONTH}(?:(?:\s*,\s*|\s+(?:of\s+)?){_YEAR})?",
        rf"(?<!\w){_MONTH}\s*,?\s+(?:of\s+)?{_YEAR}",
        r"(?<![\d-])(?P<year>\d{4})-(?P<number>[01]\d)-(?P<day>[0-3]\d)(?![\d-])",
        r"(?P<year>\d{4})\s*年\s*(?P<number>\d{1,2})\s*月(?:\s*(?P<day>\d{1,2})\s*[日号])?",
    )
]
# The time of a date that was stored as a timestamp.
_MIDNIGHT = regex.compile(r"(?<=\d{4}-\d\d-\d\d)[T ]00:00(?::00(?:\.0+)?)?Z?(?![\d:])")
_TIME = regex.compile(
    r"(?<![\w:.])(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?:\s?(?P<half>[ap])\.?\s?m\b\.?"
    r"|\s+(?:in the (?P<part>morning|afternoon|evening)|at (?P<night>night))\b)",
    regex.IGNORECASE,
)
_RANGE = regex.compile(
    r"(?<![\w.])(?:(?:between|from)\s+)?(\d[\d,.]*)\s*"
    r"(?:\b(?:to|until|till|through)\b|(?<=\bbetween\s\S+\s+)and\b|[–—-])\s*(?=\d)(\d[\d,.]*)",
    regex.IGNORECASE,
)
# "O negative" is O-.
_GROUP_SIGN = regex.compile(r"\b(A|B|AB|O) (?:blood )?(positive|negative)\b")
_KOREAN_COPULA = regex.compile(r"(?<=\p{Hangul})(?:입니다|이에요|예요|이다)(?=\P{Hangul}|$)")
_NUMBER_WORD = regex.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|"
    r"thirty|forty|fourty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|[mb]illion|trillion|"
    r"\w+th|half|halves|quarters?|thirds?|minus|negative|dozen|first|second)\b",
    regex.IGNORECASE,
)
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
          "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10}  # fmt: skip
_PART = regex.compile(
    r"\b(?P<count>\d+|an?|one|two|three|four|five|six|seven|eight|nine)(?:[ -])"
    r"(?P<part>half|halve|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?\b"
    r"(?!\s+(?:of\s+)?(?:century|place|time|largest|grade|floor|day|amendment))",
    regex.IGNORECASE,
)
_MULTIPLIERS = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "k": 1000, "bn": 10**9, "mn": 10**6, "万": 10**4, "萬": 10**4,
    "亿": 10**8, "億": 10**8,
}  # fmt: skip
_MULTIPLIER = regex.compile(
    r"\s?(?:-?(dozen|hundred|thousand|million|billion|trillion)s?\b|((?<=\d)k|bn|mn)\b|([万萬亿億]))",
    regex.IGNORECASE,
)
_CHINESE = {char: value for value, char in enumerate("零一二三四五六七八九")} | {
    "〇": 0, "两": 2, "兩": 2
}  # fmt: skip
_CHINESE_TENS = {
    "十": 10,
    "百": 100,
    "千": 1000,
    "万": 10**4,
    "萬": 10**4,
    "亿": 10**8,
    "億": 10**8,
}
# Characters beside which Chinese numerals are numbers.
_COUNTERS = frozenset(
    "要共在于於到至个個年月日号岁歲人天时時分秒元块度米克里次倍公千克小是为為有约約共第百%的"
)
_CHINESE_NUMBER = regex.compile(r"[零〇一二三四五六七八九两兩十百千万萬亿億]+")

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
    "EU": "european union", "UAE": "united arab emirates", "USSR": "soviet union",
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
    plain = _prepare(text, rules)
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


def _prepare(text: str, rules: Collection[str]) -> str:
    text = _HIDDEN.sub("", text)
    text = _RAISED.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", _VULGAR.sub(" ", text)).replace("−", "-")
    text = regex.sub(r"(?<![^\s(])–(?=\d)", "-", text)
    text = "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() and not char.isascii() else char
        for char in text
    )
    for pattern, new in _LATEX:
        text = pattern.sub(new, text)
    text = _KOREAN_COPULA.sub("", text)
    if "chinese_characters" in rules and regex.search(r"\p{Han}", text):
        # a variant of a name's character that the conversion keeps
        text = _opencc().convert(text).replace("锺", "钟")
    text = _GROUP_SIGN.sub(lambda match: match[1] + "+-"["n" in match[2][:1]], text)
    if "abbreviations" in rules:
        text = regex.sub(r"\b(WWI{1,2})\b", lambda found: f"World War {found[1][2:]}", text)
        text = regex.sub(r"(?<=\w)\s*&\s*(?=\w)", " and ", text)
    if "number_words" in rules:
        text = _replace_number_words(text)
    if "dates" in rules:
        text = _MIDNIGHT.sub("", text)
        for pattern in _DATES:
            text = pattern.sub(_order_date, text)
        text = _TIME.sub(_read_time, text)
    if "ranges" in rules:
        text = _RANGE.sub(r"\1–\2", text)
    return text


def _read_time(match) -> str:
    """A time of day in 24 hours: "15:00" for "3 pm" and "3:00 p.m."."""
    hour = int(match["hour"])
    if not 1 <= hour <= 12:
        return match[0]
    part = (match["half"] or match["part"] or match["night"]).casefold()
    hour = hour % 12 + 12 * (part in ("p", "afternoon", "evening", "night"))
    return f"{hour}:{match['minute'] or '00'}h"


def _order_date(match) -> str:
    found = match.groupdict()
    if found.get("month"):
        name = next(month for month in _MONTHS if month.startswith(found["month"][:3].casefold()))
    elif 1 <= int(found["number"]) <= 12:
        name = _MONTHS[int(found["number"]) - 1]
    else:
        return match[0]
    parts = [found.get("day"), name, found.get("year")]
    return " ".join(part for part in parts if part)


def _replace_number_words(text: str) -> str:
    text = _CHINESE_NUMBER.sub(_read_chinese, text)
    if not _NUMBER_WORD.search(text):
        return text
    text = regex.sub(
        r"\b(?:minus|negative)\s+(?=\d|[^\W\d_]{3})", "-", text, flags=regex.IGNORECASE
    )
    text = regex.sub(r"\b(?:a|one) dozen\b", "12", text, flags=regex.IGNORECASE)
    text = regex.sub(r"^\s*(?:an?\s+)?half\s*$", "1/2", text, flags=regex.IGNORECASE)
    text = regex.sub(r"\band (?:an?|one)[ -]half\b", "and 1/2", text, flags=regex.IGNORECASE)
    text = _PART.sub(_read_part, text)
    # the unit: "per second", "5-second"
    text = regex.sub(
        r"(?<=(?:\bper|\d|\b\w+teen|\b\w+ty|\bone|\ba|\bhalf a)[\s-]+)second\b"
        r"(?!\s+\p{Ll}+\s+(?:of|to)\b)",
        "se\u2060cond",
        text,
        flags=regex.IGNORECASE,
    )
    # the pronoun: "one of them", "the one", "no one"
    text = regex.sub(r"(?<=\b(?:the|no|any|some|every|this|that|which)\s)one\b|\bone(?=\s+(?:of|"
                     r"another|who|that|which|day|must|can|should)\b)", "o\u2060ne", text,
                     flags=regex.IGNORECASE)  # fmt: skip
    text = regex.sub(r"\bzero\b", "0", text, flags=regex.IGNORECASE)
    from text_to_num import alpha2digit

    text = alpha2digit(text, "en", 0).replace("\u2060", "")
    text = regex.sub(r"\ban?\s+(?=1(?:00|000|000000|000000000)\b)", "", text)
    text = regex.sub(
        r"(\d(?:\.\d+)?) (?=(1000|1000000|1000000000|1000000000000)\b)(\d+)",
        lambda match: f"{match[1]} {_name_multiplier(match[3])}",
        text,
    )
    return regex.sub(r"(\d+) and (\d+)/(\d+)", r"\1 \2/\3", text)


def _name_multiplier(digits: str) -> str:
    return next(name for name, value in _MULTIPLIERS.items() if value == int(digits))


def _read_part(match) -> str:
    count = match["count"].casefold()
    words = dict(zip("one two three four five six seven eight nine".split(), range(1, 10),
                     strict=True))  # fmt: skip
    number = 1 if count in ("a", "an") else words.get(count) or int(count)
    return f"{number}/{_PARTS[match['part'].casefold()]}"


def _read_chinese(match) -> str:
    text = match[0]
    before = match.string[max(0, match.start() - 1) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    # 四川 and 千里 are names and words
    if (regex.match(r"\p{Han}", before) and before not in _COUNTERS) or (
        regex.match(r"\p{Han}", after) and after not in _COUNTERS
    ):
        return text
    if all(char in _CHINESE for char in text):
        return f" {''.join(str(_CHINESE[char]) for char in text)} "
    if before.isdigit():  # 300万: a multiplier
        return text
    total = section = number = 0
    for char in text:
        if char in _CHINESE:
            number = _CHINESE[char]
        elif (factor := _CHINESE_TENS[char]) >= 10**4:
            total, section, number = (total + section + number) * factor, 0, 0
        else:
            section, number = section + (number or 1) * factor, 0
    value = total + section + number
    return f" {value} " if value else text


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
        value *= _MULTIPLIERS[name]
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
def _opencc():
    import opencc

    return opencc.OpenCC("t2s")


@cache
def _inflect():
    import inflect

    engine = inflect.engine()
    engine.classical(all=True)  # bacteria, phenomena
    return engine
