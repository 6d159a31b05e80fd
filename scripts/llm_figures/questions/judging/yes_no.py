"""Whether an answer affirms or denies a question."""

from collections.abc import Sequence

import regex

from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.words import find_singular, fold, tokenise

YES = frozenset(
    "yes true yeah yep yup correct right indeed sure absolutely definitely certainly affirmative "
    "是 是的 对 對 正确 正確 有 可以 ja oui si sí sim да はい 네 예 हाँ نعم".split()
)
NO = frozenset(
    "no false nope incorrect wrong untrue negative never nah 否 不 不是 不对 错 錯 错误 没有 nein "
    "non nao não нет いいえ 아니요 नहीं لا".split()
)
_FIRST_YES = regex.compile(
    r"^(?:no\s+doubt|without\s+(?:a\s+)?doubt|yes|yeah|yep|yup|true|correct|right|indeed|sure|"
    r"absolutely|definitely|certainly|of course|affirmative|exactly|ja\b|oui|sí|si\b|да\b|是的|是|"
    r"对|對|正确|はい|네|예)",
    regex.IGNORECASE,
)
_FIRST_NO = regex.compile(
    r"^(?:no(?!\s+doubt)\b|nope|nah\b|false|incorrect|wrong|untrue|negative|never|not\b|hardly|"
    r"(?:\w+ly|of\s+course|I\s+think|I['’]m\s+afraid|perhaps)\s+not\b|nein|non\b|нет|否|不|错|没有|いいえ|"
    r"아니)",
    regex.IGNORECASE,
)
_NOT = regex.compile(
    r"\b(?:not|never|no|cannot|neither|nor|false|incorrect|wrong|untrue|myth|hardly|impossible|"
    r"unable|unlikely)\b|n['’]t\b|不|没",
    regex.IGNORECASE,
)
_DENIED = regex.compile(r"(?:\bnot|n['’]t)\s+(?:(?:a|an|the)\s+)?(\p{L}+)", regex.IGNORECASE)
# "irrational" denies "rational"
_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non")
_EMPHASIS = regex.compile(r"\bno doubt\b|\bwithout (?:a )?doubt\b|\bnot only\b", regex.IGNORECASE)
# How many of the question's words a statement repeats that affirms or denies it.
_SAME = 0.7
_STATED = regex.compile(
    r"\b(?:is|it['’]s|that['’]s|was|are|be|answer:)\s+"
    r"(?:(?:also|indeed|absolutely|definitely|actually|in\s+fact)\s+)?(?P<not>not\s+)?[\"'“*]*"
    r"(?P<word>(?:yes|no)(?=\W*(?:$|[,;.:!]))|true|false|correct|incorrect|right|wrong|untrue|"
    r"an?\s+(?:\w+\s+)?(?:myth|lie|misconception))\b"
    r"(?!\s+(?:side|hand|longer|one))"
    r"|\b(?:isn|wasn|aren)['’]t\s+(?P<denied>true|correct|right|false|wrong)\b",
    regex.IGNORECASE,
)
# "It is.", "They do not.", "It is not possible"
_VERB = r"(?:is|was|are|were|does|do|did|can|could|has|have|will|would|should)"
_SHORT = regex.compile(
    rf"^(?:it|that|this|they|he|she|there|you|we|one)\s+{_VERB}"
    r"(?:(?P<not>\s*n['’]t\b|\s*not\b)|\W*$)",
    regex.IGNORECASE,
)
# a question in return
_QUESTION = regex.compile(rf"^{_VERB}\s+[\w\s'’-]+\??$", regex.IGNORECASE)
_LAST = regex.compile(r"\b(yes|no)\W*$", regex.IGNORECASE)
_COMMON = frozenset(
    "is are was were do does did can could the a an of in to it that not has have will "
    "would".split()
)
_NEGATED_YES = frozenset("yes true correct right".split())


def find_polarity(aliases: Sequence[str]) -> bool | None:
    """True if the gold answer is yes or true, False if it is no or false, else None."""
    words = {fold(alias.strip(" .!")) for alias in aliases}
    if words and words <= YES:
        return True
    if words and words <= NO:
        return False
    return None


def read_polarity(exact: str, question: str) -> tuple[bool | None, str]:
    """Whether `exact` affirms (True) or denies (False) the question; None if it does neither.

    Its first word decides, or else "is true", "is not correct" and the like, or else whether a
    statement that repeats most of the question holds a negation. The second value says why the
    reading is in doubt, else it is "".
    """
    text = exact.strip().lstrip("\"'“”‘’*_([").strip()
    stated = [_read_stated(match) for match in _STATED.finditer(text)]
    first = False if _FIRST_NO.match(text) else True if _FIRST_YES.match(text) else None
    if _FIRST_YES.match(text) and regex.match(r"^\w+\s+not\b", text):
        first = False
    if first is not None:
        if any(one is not first for one in stated):
            return None, "says both yes and no"
        return first, ""
    if stated:
        return (stated[0], "") if len(set(stated)) == 1 else (None, "says both yes and no")
    if short := _SHORT.match(text):
        return short["not"] is None, ""
    if _QUESTION.match(text):
        return None, ""
    if last := _LAST.search(text):
        return last[1].casefold() == "yes", ""
    said = _read_statement(exact, question)
    return said, "" if said is None else "a statement in place of yes or no"


def _read_statement(exact: str, question: str) -> bool | None:
    """Whether a statement affirms a question whose words it repeats; None if it repeats too few."""
    asked, said = (
        {_find_stem(token.key) for token in tokenise(text, frozenset())} - _COMMON
        for text in (question, exact)
    )
    question_denies = bool(_NOT.search(_EMPHASIS.sub("", question)))
    denied = {_find_stem(fold(word)) for word in _DENIED.findall(exact)}
    opposite = {f"{prefix}{word}" for prefix in _PREFIXES for word in asked}
    if denied & asked or (_repeats(asked, said) and opposite & said):
        return question_denies
    if not _repeats(asked, said):
        return None
    return bool(_NOT.search(_EMPHASIS.sub("", exact))) is question_denies


def _find_stem(key: str | Quantity) -> str | Quantity:
    return find_singular(key) if isinstance(key, str) else key


def _repeats(asked: set, said: set) -> bool:
    return bool(asked) and len(asked & said) >= _SAME * len(asked)


def _read_stated(match) -> bool:
    if match["denied"]:
        return match["denied"].casefold() not in _NEGATED_YES
    yes = match["word"].casefold() in _NEGATED_YES
    return yes is not bool(match["not"])
