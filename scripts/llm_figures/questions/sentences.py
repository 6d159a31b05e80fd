"""Where the first sentence of a text ends.

Segmenters of whole texts end a sentence after "1.", "Vol." and "approx.", or take the answer "No."
for an abbreviation, so the few rules that one answer needs are written here. They look at the
letters around a full stop and never at what the answer says.
"""

import re

_STOP = re.compile(r"[.!?]+(?=[\"'”’»)\]*_]*(?:\s|$))|[。！？｡।॥։؟۔]+|\n")
# Titles and months, written with a capital, which precede a name or a number.
_TITLES = frozenset(
    "Adm Apr Aug Brig Capt Cmdr Cmdt Col Cpl Dec Dr Dra Feb Fr Ft Gen Gov Hon Jan Jul Jun Lt Maj "
    "Messrs Mlle Mme Mr Mrs Ms Msgr Mt Nov Oct Pfc Ph Pres Prof Pvt Rep Rev Sen Sep Sept Sgt Sra "
    "Srta St Ste Supt Univ Wm Г".split()
)
_BEFORE_WORD = frozenset("approx bzw ca cf eg esp etc ie resp usw viz vs г им ул".split())
# Ends of names and measures; the sentence may end there, too.
_AFTER_WORD = frozenset("bros co corp inc jr ltd sr esq ave blvd dept est mfg".split())
# An abbreviation only before a number: "No." is also an answer.
_BEFORE_NUMBER = frozenset(
    "art ch eq fig max min no nos nr op p para pg pp sec tab ver vol".split()
)
# After an initial, or after "Inc.", these begin a sentence rather than go on with a name.
_STARTERS = frozenset(
    "A After All Also Although An Answer And As At Because Before But By Each Every Explanation "
    "First For From He Hence Her Here His How However I If In It Its Let My No Not Note On One Or "
    "Our Question She Since So Some Such Than That The Their Then There Therefore These They This "
    "Those Thus To We What When Where Which While Who Why With Yes You Your Q".split()
)
# After these words a single letter is no initial: "Vitamin C."
_BEFORE_LETTER = frozenset(
    "vitamin hepatitis plan group type class grade option choice letter war part section".split()
)
# Characters around a full stop that are looked at.
_NEAR = 40
_MONTH = re.compile(
    r"\s+(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember)\b"
)


def find_sentence_end(text: str, start: int = 0) -> int:
    """The index in `text` of the mark that ends the sentence beginning at `start`, else its length.

    A new line ends a sentence, and so does the mark of any script (。 । ؟). A full stop does not
    after an initial ("A. B. Carter"), an abbreviation ("Prof. Hill", "approx. 5"), the number of a
    list item ("1. Paris"), or within a number ("3.14").
    """
    last = len(text.rstrip())
    for match in _STOP.finditer(text, start):
        if match[0] != "." or match.end() >= last:
            return match.start()
        before = text[max(start, match.start() - _NEAR) : match.start()]
        begins = match.start() - _NEAR <= start
        if not _goes_on(before, text[match.end() : match.end() + _NEAR], begins):
            return match.start()
    return len(text)


def _goes_on(before: str, after: str, begins: bool) -> bool:
    """Whether a sentence goes on after a full stop between these texts.

    begins: whether the sentence begins with `before`, which else is its end.
    """
    if not before.strip() or after.lstrip(" \t\xa0").startswith("\n"):
        return False
    word = re.search(r"(?:[^\W\d_]|(?<=\w)\.(?=\w)){1,20}$", before)
    following = re.match(r"[\s\"'“”‘’(\[*_]*([\w'’-]*)", after)[1]
    starts_sentence = following.split("’")[0].split("'")[0] in _STARTERS
    if word is None:
        # a list item, or a German date
        item = begins and re.fullmatch(r"\s*\(?\d{1,2}", before) and not starts_sentence
        return bool(item) or bool(re.search(r"(?<!\d)\d{1,2}$", before) and _MONTH.match(after))
    letters = word[0].casefold().replace(".", "")
    if letters in _BEFORE_NUMBER:
        return following[:1].isdigit()
    if letters in _BEFORE_WORD:
        return True
    if word[0] in _TITLES:
        # "Dr. No" is a name
        return not starts_sentence or following in ("No", "Who", "Q")
    if "." in word[0] or letters in _AFTER_WORD:  # "D.C.", "a.m.", "Inc."
        return not starts_sentence
    if len(word[0]) == 1 and word[0].isupper():
        preceding = before[: word.start()].strip(" \t\xa0\"'“”‘’(*_")
        if begins and not preceding:
            # the first word: an initial, "E. coli", the letter of a choice, or the symbol of carbon
            return not starts_sentence
        if preceding.rpartition(" ")[2].casefold() in _BEFORE_LETTER:
            return False
        return following[:1].islower() or (following[:1].isupper() and not starts_sentence)
    return False
