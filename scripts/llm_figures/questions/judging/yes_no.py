"""Whether an answer affirms or denies a question."""

from collections.abc import Sequence

import regex

from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.words import find_singular, fold, tokenise

YES = frozenset(
    "yes true yeah yep yup correct right indeed 是 是的 对 對 正确 正確 ja oui si sí sim да はい "
    "네 예 हाँ हां نعم".split()
)
NO = frozenset(
    "no false nope incorrect wrong untrue negative 否 不 不是 不对 错 錯 错误 nein non nao não нет "
    "いいえ 아니요 नहीं لا".split()
)
# Questions that these words answer; elsewhere "No" is an element, and "right" a side.
_ASKS_FOR_WORD = regex.compile(
    r"^\W*(?:what|which|who|whom|whose|when|where|why|how|name|give|list|choose|pick|on\s+which)\b(?!.*\b"
    r"(?:true\s+or\s+false|yes\s+or\s+no)\b)",
    regex.IGNORECASE | regex.DOTALL,
)
# "Sure! A tomato is a fruit."
_POLITE = regex.compile(
    r"^(?:sure|certainly|of\s+course|absolutely|okay|ok|great\s+question|good\s+question|"
    r"true\s*/\s*false|yes\s*/\s*no|answer|the\s+answer\s+is|(?:正确)?答案(?:是)?|对不起|抱歉)\s*[!.:,，：]+\s*(?=\w)",
    regex.IGNORECASE,
)
_FIRST_YES = regex.compile(
    r"^(?:(?:for\s+(?:sure|certain)|no\s+doubt|without\s+(?:a\s+)?doubt|yes|yeah|yep|yup|true|correct|indeed|"
    r"of\s+course(?!\s+not)|(?:sure|absolutely|definitely|certainly|affirmative|exactly|right)(?=\W*$|\s*[,.!;:–—-])|"
    r"I\s+think\s+so|I\s+believe\s+so|not\s+(?:false|wrong|untrue|incorrect)|ja|oui|sí|si|sim|да)\b|"
    r"(?:是的|是(?!不)|对(?!不)|對(?!不)|正确|正確|没错|沒錯|はい|네|예|हाँ|हां|نعم))",
    regex.IGNORECASE,
)
_FIRST_NO = regex.compile(
    r"^(?:(?:no(?!\s+(?:doubt|idea|one|answer|clue)\b)|nope|nah|false|incorrect|wrong|untrue|negative|"
    r"never(?!\s+heard)|not(?!\s+(?:sure|known|certain|only|false|wrong|untrue|incorrect)\b)|hardly|"
    r"(?:\w+ly|of\s+course|I\s+think|I['’]m\s+afraid|perhaps)\s+not|"
    r"I\s+do(?:n['’]t|\s+not)\s+(?:think|believe)\s+so|"
    r"it(?:\s+is|['’]s)\s+(?:impossible|untrue|a\s+myth)|nein|non|não|нет)\b|"
    r"(?:否|不(?!错|錯)|错|錯|没有|いいえ|아니|नहीं|لا(?!\w)))",
    regex.IGNORECASE,
)
_BOTH = regex.compile(
    r"^(?:yes|ja|oui|sí|true)\s*(?:,|/|or|and|oder|ou|y|und|et)\s*(?:no|nein|non|false)\b",
    regex.IGNORECASE,
)
# "Yes, that is false"
_TAKES_BACK = regex.compile(
    r"^\w+\s*[,.!;:–—-]*\s*(?:that|it|this)(?:['’]s|\s+is|\s+was)\s+(?P<not>not\s+)?"
    r"(?P<word>true|false|correct|incorrect|right|wrong)\b(?!\s+that)",
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


def find_polarity(aliases: Sequence[str], question: str) -> bool | None:
    """True if the gold answer is yes or true, False if it is no or false.

    None if it is something else, or if the question asks for a word ("Which side?": right).
    """
    words = {fold(alias.strip(" .!")) for alias in aliases}
    if not words or _ASKS_FOR_WORD.search(question):
        return None
    if words <= YES:
        return True
    return False if words <= NO else None


def read_polarity(exact: str, question: str) -> tuple[bool | None, str]:
    """Whether `exact` affirms (True) or denies (False) the question; None if it does neither.

    Its first word decides, or else "is true", "is not correct" and the like, or else whether a
    statement that repeats most of the question holds a negation. The second value says why the
    reading is in doubt, else it is "".
    """
    text = exact.strip().lstrip("\"'“”‘’*_([").strip()
    if _BOTH.match(text):
        return None, "says both yes and no"
    if (polite := _POLITE.match(text)) and (rest := text[polite.end() :]):
        said, doubt = read_polarity(rest, question)
        if said is not None:
            return said, doubt
    first = False if _FIRST_NO.match(text) else True if _FIRST_YES.match(text) else None
    if first is not None:
        taken_back = _TAKES_BACK.match(text)
        if taken_back and _read_stated(taken_back["word"], taken_back["not"]) is not first:
            return None, "says both yes and no"
        return first, ""
    stated = {_read_stated(match["word"] or match["denied"], match["not"] or match["denied"])
              for match in _STATED.finditer(text)}  # fmt: skip
    if stated:
        return (stated.pop(), "") if len(stated) == 1 else (None, "says both yes and no")
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


def _read_stated(word: str, denied: str | None) -> bool:
    return (word.casefold() in _NEGATED_YES) is not bool(denied)
