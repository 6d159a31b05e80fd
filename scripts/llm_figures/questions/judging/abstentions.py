"""Answers that decline: "I don't know", "As an AI, I cannot …"."""

import regex

# What may stand before an abstention.
_OPENING = (
    r"^[\W_]*(?:(?:sorry|unfortunately|well|hmm+|oh|okay|actually|honestly|sadly|unsure|not\s+sure|answer|a|the\s+answer|"
    r"i['’]m\s+sorry|i\s+am\s+sorry|i\s+apologi[sz]e|but|je|ich|我|对不起|抱歉|很抱歉|desculpe|lo\s+siento|"
    r"désolée?|leider|作为[^，,]{0,16}[，,]|mi\s+dispiace|к\s+сожалению|извините)\b?[\W_]*){0,3}"
)
_NOT_I = (
    r"(?:\bI\s*)?(?:(?:honestly|really|simply|just)\s+)?(?:do\s*n['’o]?t|do\s+not|am\s+not|['’]m\s+not|"
    r"can\s*not|can['’]t|could\s*n['’o]?t)\s+(?:\w+\s+){0,2}?"
)
_NO_INFORMATION = r"(?:information|context|data|knowledge|details)"
_ENGLISH = [
    _NOT_I + r"(?:know|sure|certain|aware|recall|remember|answer|say|tell|determine|find|provide|"
    r"help|verify|confirm|familiar|give|solve|compute|choose|select|able\s+to|be\s+(?:sure|certain))\b",
    _NOT_I + r"have\s+(?:\w+\s+){0,2}(?:information|access|knowledge|idea|data|answer)\b",
    r"\bI\s*(?:['’]m|am)\s+(?:unsure|uncertain|unable|unaware)\b|\bI\s+dunno\b",
    r"\b(?:no\s+(?:idea|clue|answer)\b|beats\s+me|your\s+guess|hard\s+to\s+say|who\s+knows|"
    r"nobody\s+knows|no\s+one\s+knows|never\s+heard\s+of|impossible\s+to\s+(?:say|know|tell))",
    r"\bas\s+an?\s+(?:AI|(?:large\s+)?language\s+model)\b.{0,80}"
    r"\b(?:can\s*not|can['’]t|unable|not\s+able|do\s*n['’o]?t)\b",
    r"(?:\bI\s+am\s+|\bI['’]m\s+)?(?:un|not\s+)able\s+to\s+(?:answer|determine|say|provide|find|"
    r"verify|tell|confirm|give|solve)\b",
    r"(?:the|this)\s+(?:passage|text|context|question|article)\s+does(?:n['’]t|\s+not)\s+(?:say|give|"
    r"state|mention|specify|provide|tell|contain|include)\b",
    r"(?:it\s+|this\s+|the\s+answer\s+)?(?:can\s*not|can['’]t|could\s*n['’o]?t)\s+be\s+"
    r"(?:determined|answered|known|solved)\b",
    rf"(?:there\s+is\s+|there['’]s\s+)?(?:no|not\s+enough|insufficient)\s+(?:\w+\s+)?{_NO_INFORMATION}\b",
    rf"(?:I\s+(?:would\s+)?)?(?:lack|need\s+more)\s+(?:the\s+)?(?:\w+\s+)?{_NO_INFORMATION}\b",
    rf"without\s+(?:more|further)\s+{_NO_INFORMATION}",
    r"\bI\s+(?:have\s+no\s+(?!doubt)|would\s+(?:have\s+to|need\s+to)\s+(?:guess|look|check)|"
    r"must\s+(?:decline|abstain)|decline|pass\b|would\s+rather\s+not)",
    r"\bI['’](?:m|d)\s+(?:afraid\s+I|sorry,?\s+(?:but\s+)?I|rather\s+not|have\s+to\s+(?:guess|look))",
    r"(?:(?:sorry|unknown|unsure|uncertain|not\s+(?:sure|known|certain|available|specified|given)|"
    r"n/a|undetermined|unanswerable|none\s+given|idk|dunno|no\s+comment|it\s+depends)"
    r"[\W_]*+)++$",
    r"(?:it|this|that|the\s+answer)(?:\s+is|['’]s)\s+(?:\w+\s+)?(?:unknown|unclear|uncertain|"
    r"not\s+(?:known|clear|certain|possible\s+to\s+(?:say|tell|know|determine|answer)))",
]
_OTHER_LANGUAGES = [
    r"不(?:太)?(?:知道|清楚|确定|確定|了解)(?!的是|性)|无法.{0,3}(?:答|确定|判断|提供|计算|得知|求解)",
    r"無法.{0,3}(?:答|確定|判斷)|没有(?:相关|足够)?的?信息|不会(?:做|解|回答)|答不(?:上来|出来)|未知$",
    r"わかりません|分かりません|知りません|わからない|分からない|知らない|存じません",
    r"(?:잘\s*)?(?:모르겠|모릅니다|알\s*수\s*없)",
    r"(?:я\s+)?(?:не\s+(?:знаю|уверен|уверена|могу\s+(?:ответить|сказать)|известно)|неизвестно)\b",
    r"(?:yo\s+)?no\s+(?:lo\s+)?(?:sé\b|estoy\s+segur|tengo\s+(?:ni\s+idea|idea|(?:suficiente\s+|esa\s+|la\s+)?"
    r"información)|puedo\s+(?:responder|contestar|decir))|(?:lo\s+)?desconozco\b",
    r"ne\s+(?:le\s+)?(?:sais|connais)\s+pas|(?:je\s+)?(?:n['’]ai\s+aucune|l['’]ignore|"
    r"ne\s+peux\s+pas)|aucune\s+idée\b",
    r"(?:das\s+)?wei(?:ß|ss)\s+(?:ich\s+|es\s+|das\s+)?(?:leider\s+)?nicht|keine\s+ahnung\b|"
    r"(?:bin\s+(?:mir\s+)?nicht\s+sicher|kann\s+\w*\s*nicht|kann\s+ich\b.{0,40}\bnicht)\b|"
    r"(?:das\s+)?ist\s+(?:mir\s+)?(?:leider\s+)?nicht\s+bekannt",
    r"(?:eu\s+)?não\s+(?:sei|tenho\s+certeza|posso)|(?:io\s+)?non\s+(?:lo\s+)?(?:so|conosco|"
    r"sono\s+sicur\w)\b",
    r"(?:أنا\s+)?(?:لا\s+(?:أعرف|أعلم|أدري)|لست\s+متأكد|غير\s+معروف)",
    r"(?:मैं\s+|मुझे\s+)?(?:नहीं\s+(?:जानता|जानती|पता|मालूम)|पता\s+नहीं|मालूम\s+नहीं)",
    r"(?:ik\s+)?weet\s+(?:het\s+)?niet|(?:ja\s+)?nie\s+wiem|(?:jag\s+)?vet\s+(?:inte|ej)|"
    r"(?:jeg\s+)?ved\s+(?:det\s+)?ikke|bilmiyorum|(?:tôi\s+)?không\s+biết|(?:saya\s+)?tidak\s+tahu|"
    r"nevím|δεν\s+(?:ξέρω|γνωρίζω)|(?:אני\s+)?לא\s+(?:יודע|יודעת|בטוח)|ไม่(?:ทราบ|รู้)",
]
_FLAGS = regex.IGNORECASE | regex.DOTALL
_ABSTAINS = regex.compile(_OPENING + f"(?:{'|'.join([*_ENGLISH, *_OTHER_LANGUAGES])})", _FLAGS)
# "I'm not sure, but I think it is Paris" commits itself, and so does "I don't know, maybe Paris".
_GUESSES = (
    r"(?:I\s+(?:think|believe|guess|would\s+(?:say|guess|go))|I['’]d\s+(?:say|guess|go)|"
    r"my\s+(?:best\s+)?guess|it(?:\s+is|['’]s|\s+(?:might|may|could|must|should)\s+be)|probably|"
    r"perhaps|maybe|likely)\b"
)
_COMMITS = regex.compile(
    rf"\b(?:but|however|though|although|still)\b.{{0,40}}?\b{_GUESSES}"
    r"|[,.;–-]\s*(?:but\s+)?(?:maybe|perhaps|possibly|probably)\s+\w"
    r"|\bmy\s+(?:best\s+)?guess\s+(?:is|would\s+be)\b|\bI['’]d\s+(?:say|guess)\b(?!\s+(?:I|no)\b)"
    r"|the\s+(?:correct\s+|right\s+)?answer\s+is\s+(?!not|un)"
    r"|(?:不确定|不太确定|不清楚|不知道)，?.{0,6}(?:但|可能|应该|也许)|答案是(?!不|未)"
    r"|aber\s+ich\s+(?:glaube|denke)|mais\s+je\s+(?:pense|crois)|pero\s+creo|но\s+(?:думаю|возможно)",
    _FLAGS,
)
# An abstention stands at the beginning of an answer.
_BEGINNING = 300


def abstains(answer: str) -> bool:
    """Whether an answer declines to answer, in one of some twenty languages.

    It looks at the answer alone, never at the gold answer. An answer that hedges but commits itself
    ("I'm not sure, but I think it is Paris") is none.
    """
    text = answer[:_BEGINNING]
    return bool(_ABSTAINS.search(text)) and not _COMMITS.search(text)
