"""Answers that decline: "I don't know", "As an AI, I cannot …"."""

import regex

_NOT_I = (
    r"\bI\s*(?:(?:honestly|really|simply|just)\s+)?(?:do\s*n['’o]?t|am\s+not|['’]m\s+not|can\s*not|"
    r"can['’]t|could\s*n['’o]?t)\s+(?:\w+\s+){0,2}?"
)
_ENGLISH = [
    _NOT_I + r"(?:know|sure|certain|aware|recall|remember|answer|say|tell|determine|find|provide|"
    r"help|verify|confirm|familiar|give|solve|able\s+to|be\s+(?:sure|certain))\b",
    _NOT_I + r"have\s+(?:\w+\s+){0,2}(?:information|access|knowledge|idea|data|answer)\b",
    r"\b(?:no\s+(?:idea|clue|answer)|beats\s+me|your\s+guess|hard\s+to\s+say|who\s+knows)\b",
    r"\bas\s+an?\s+(?:AI|(?:large\s+)?language\s+model)\b.{0,80}"
    r"\b(?:can\s*not|can['’]t|unable|not\s+able|do\s*n['’o]?t)\b",
    r"\b(?:un|not\s+)able\s+to\s+(?:answer|determine|say|provide|find|verify|tell|confirm|give|"
    r"solve)\b",
    r"\b(?:can\s*not|can['’]t|could\s*n['’o]?t)\s+be\s+(?:determined|answered|known|found|solved)\b",
    r"\b(?:not\s+enough|insufficient|lack\s+(?:the|of)|without\s+(?:more|further))\s+(?:\w+\s+)?"
    r"(?:information|context|data|knowledge)\b",
    r"\bneed\s+more\s+(?:information|context)\b",
    r"\bI\s+(?:have\s+no|lack|would\s+(?:have\s+to|need\s+to)\s+(?:guess|look|check)|apologi[sz]e|"
    r"must\s+(?:decline|abstain)|decline|pass\b|would\s+rather\s+not)",
    r"\bI['’](?:m|d)\s+(?:afraid\s+I|sorry|unable|rather\s+not|have\s+to\s+(?:guess|look))",
    r"^\W*(?:sorry|unknown|unsure|uncertain|not\s+(?:sure|known|certain|available|specified|given)|"
    r"n/a|undetermined|unanswerable|none\s+given|pass|idk|dunno|no\s+comment|it\s+depends|skip|\W)+$",
    r"^\W*(?:it|this|that|the\s+answer)(?:\s+is|['’]s)\s+(?:\w+\s+)?(?:unknown|unclear|uncertain|"
    r"not\s+(?:known|clear|certain|possible\s+to\s+(?:say|tell|know|determine|answer)))",
    r"\b(?:sorry,?\s+(?:but\s+)?I|please\s+(?:consult|provide|check))\b",
]
_OTHER_LANGUAGES = [
    r"不(?:太)?(?:知道|清楚|确定|確定|了解)(?!的是)|无法.{0,3}(?:答|确定|判断|提供|计算|得知|求解)",
    r"無法.{0,3}(?:答|確定|判斷)|没有(?:相关|足够)?的?信息|不会(?:做|解|回答)|答不(?:上来|出来)|未知$|抱歉",
    r"わかりません|分かりません|知りません|わからない|分からない|存じません",
    r"모르겠|모릅니다|알\s*수\s*없",
    r"\bне\s+(?:знаю|уверен|уверена|могу\s+(?:ответить|сказать)|известно)|\bнеизвестно\b",
    r"\bno\s+(?:lo\s+)?(?:sé\b|estoy\s+segur|tengo\s+(?:ni\s+idea|idea|(?:suficiente\s+)?información))|\bdesconozco\b",
    r"\bno\s+puedo\s+(?:responder|contestar|decir)",
    r"\bne\s+(?:le\s+)?(?:sais|connais)\s+pas|\bje\s+(?:n['’]ai\s+aucune|l['’]ignore|ne\s+peux\s+pas)",
    r"\baucune\s+idée\b",
    r"\bwei(?:ß|ss)\s+(?:ich\s+|es\s+|das\s+)?(?:leider\s+)?nicht|\bkeine\s+ahnung\b",
    r"\bich\s+(?:bin\s+(?:mir\s+)?nicht\s+sicher|kann\s+\w*\s*nicht)\b|\bnicht\s+bekannt\b|\bkann\s+ich\b.{0,40}\bnicht\b",
    r"\bnão\s+(?:sei|tenho\s+certeza|posso)|\bnon\s+(?:lo\s+)?(?:so|conosco|sono\s+sicur)\b",
    r"لا\s+(?:أعرف|أعلم|أدري)|لست\s+متأكد|غير\s+معروف",
    r"नहीं\s+(?:जानता|जानती|पता|मालूम)|पता\s+नहीं|मालूम\s+नहीं",
]
_FLAGS = regex.IGNORECASE | regex.DOTALL
_ABSTAINS = regex.compile("|".join([*_ENGLISH, *_OTHER_LANGUAGES]), _FLAGS)
# "I'm not sure, but I think it is Paris" commits itself.
_GUESSES = (
    r"(?:I\s+(?:think|believe|guess|would\s+(?:say|guess|go))|I['’]d\s+(?:say|guess|go)|"
    r"my\s+(?:best\s+)?guess|it(?:\s+is|['’]s|\s+(?:might|may|could|must|should)\s+be)|probably|"
    r"perhaps|maybe|likely)\b"
)
_COMMITS = regex.compile(
    rf"\b(?:but|however|though|although|still)\b.{{0,40}}?\b{_GUESSES}"
    r"|\bmy\s+(?:best\s+)?guess\s+(?:is|would\s+be)\b|\bI['’]d\s+(?:say|guess)\b(?!\s+(?:I|no)\b)"
    r"|(?:不确定|不太确定|不清楚)，?.{0,6}(?:但|可能|应该)"
    r"|aber\s+ich\s+(?:glaube|denke)|mais\s+je\s+(?:pense|crois)|pero\s+creo",
    _FLAGS,
)


def abstains(answer: str) -> bool:
    """Whether an answer declines to answer, in one of a dozen languages.

    It looks at the answer alone, never at the gold answer. An answer that hedges but commits itself
    ("I'm not sure, but I think it is Paris") is none.
    """
    return bool(_ABSTAINS.search(answer)) and not _COMMITS.search(answer)
