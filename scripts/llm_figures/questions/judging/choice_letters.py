"""The letter of a choice that an answer gives."""

import regex

_BEFORE = r"answer|option|choice|letter|choose|pick|select|chose|picked|go with|选项?|选择|答案"
_LINK = r"is|are|was|would|be|must be|should be|:|：|=|是|为|the|option|choice|letter|answer|with"
# As an answer gives a letter: after "answer", "option is", "I choose", ….
_CHOSEN = regex.compile(
    rf"\b(?:{_BEFORE})\b?(?:\s*(?:{_LINK}))*[\s\"'“*(（\[]*(?P<letter>[A-Z])"
    r"(?![\w’'-]|\s+[a-z]+\s+(?:is|would|choice|answer|guess|option)\b)",
    regex.IGNORECASE,
)
_ALONE = regex.compile(r"(?<![\w’'.+-])(?P<letter>[A-Z])(?![\w’'+#]|-\w)")
# "A is right" gives a letter, "A dog is right" and "A South Korean film" do not.
_NOUN_FOLLOWS = regex.compile(
    r"\s+(?!(?:is|was|and|or|because|since|as|has|would|seems|must|should|can|will|looks|makes|"
    r"represents|correctly|i|the|not|but|for|by|in|from|with|if|a|rather|of\s+course|matches|fits|"
    r"works|stands|clearly|describes|says|states|gives|shows|contains|refers|corresponds|means|best|"
    r"also|only|alone|definitely|probably|certainly|might|may|does|did|answers|follows)\b)\p{L}"
)
_I_VERB = regex.compile(
    r"['’]|\s+(?:think|believe|would|guess|am|have|do|don|say|can|choose|pick|know|was|will|suppose|"
    r"go|select|chose|picked|feel|agree|cannot|could|recall|remember)\b"
)
_DENIAL = (
    r"not|isn['’]t|wasn['’]t|never|can\s?not be|can['’]t be|couldn['’]t be|won['’]t be|rather than|"
    r"instead of|neither|nor|except|eliminates?|rules? out|exclude|不是|不选|非"
)
# "not option B", "can't be A or B"
_REJECTED_BEFORE = regex.compile(
    rf"\b(?:{_DENIAL})\b?[\s,]*(?:option|choice|the|letter|answer|necessarily)?[\s\"'“*(（]*"
    r"(?:[A-J][)\]\s]*(?:,|or|nor|and)[\s(]*)*$",
    regex.IGNORECASE,
)
_REJECTED_AFTER = regex.compile(
    r"^[)\]）\"'”*.:]*\s*(?:is|was|are|seems)?\s*"
    r"(?:n['’]t|not|incorrect|wrong|false|eliminated|ruled out|不对|错)\b(?!\s+only)",
    regex.IGNORECASE,
)


def find_letters(text: str) -> list[str]:
    """The letters that an answer gives, without those it rejects, in the order they stand there.

    "A" as an article and "I" as a pronoun are no letters, so that an answer's reading does not
    depend on which letter it gives. One lower-case letter counts where it is all there is.
    """
    bare = regex.fullmatch(r"[\s\"'“‘(\[（*_.]*([A-Za-z])[\s\"'”’)\]）*_.:,!]*", text)
    if bare:
        return [bare[1].upper()]
    bracketed = regex.match(r"\s*\(?([a-z])\)", text)
    if bracketed:
        return [bracketed[1].upper()]
    named = regex.search(r"\b(?:option|choice|letter)\s+([a-j])\b(?!\s+\p{L})", text)
    if named:
        return [named[1].upper()]
    chosen = [
        match["letter"]
        for match in _CHOSEN.finditer(text)
        if match["letter"].isupper()
        and not _is_rejected(text, match.start("letter"), match.end())
        and not (match["letter"] in "AI" and _is_word(text, match.start("letter"), match.end()))
    ]
    letters = chosen or [
        match["letter"]
        for match in _ALONE.finditer(text)
        if not _is_word(text, match.start(), match.end())
        and not _is_initial(text, match.start(), match.end())
        and not _is_rejected(text, match.start(), match.end())
    ]
    return list(dict.fromkeys(letters))


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether the letter at [start, end) is the article A or the pronoun I."""
    follows = {"A": _NOUN_FOLLOWS, "I": _I_VERB}.get(text[start:end])
    return follows is not None and follows.match(text, end) is not None


def _is_initial(text: str, start: int, end: int) -> bool:
    """Whether the letter at [start, end) is that of a name such as "George W. Bush"."""
    before, after = text[:start], text[end:]
    return bool(regex.match(r"\.\s*[A-Z]", after) and regex.search(r"[A-Z][\w.]*\s*$", before))


def _is_rejected(text: str, start: int, end: int) -> bool:
    before, after = text[:start], text[end:]
    return bool(_REJECTED_BEFORE.search(before) or _REJECTED_AFTER.match(after))
