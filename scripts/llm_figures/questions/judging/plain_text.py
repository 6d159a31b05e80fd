"""Texts in one way of writing: numbers as digits, dates in one order, LaTeX as plain text."""

import unicodedata
from collections.abc import Collection
from functools import cache

import regex

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
        (r"(?<=\d)\s*(?:\\times|\\cdot|×|x|\*)\s*10\s*\^\s*\{?\s*([-+]?\d+)\}?", r"e\1"),
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
MULTIPLIERS = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "k": 1000, "bn": 10**9, "mn": 10**6, "万": 10**4, "萬": 10**4,
    "亿": 10**8, "億": 10**8,
}  # fmt: skip
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


def write_plainly(text: str, rules: Collection[str]) -> str:
    """`text` with numbers, dates, times and characters written in one way.

    rules: those to apply; without number_words, for example, "seven" stays a word.
    """
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
    return next(name for name, value in MULTIPLIERS.items() if value == int(digits))


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


@cache
def _opencc():
    import opencc

    return opencc.OpenCC("t2s")
