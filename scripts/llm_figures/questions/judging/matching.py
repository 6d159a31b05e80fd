"""Where the words of a gold answer occur in an answer, by the rules of equality."""

from collections.abc import Sequence
from itertools import zip_longest

import regex

from llm_figures.questions.judging.mentions import DIRECTIONS, asks_for_person
from llm_figures.questions.judging.quantities import Quantity, converts, equals, find_unit
from llm_figures.questions.judging.words import (
    ARTICLES,
    Token,
    find_singular,
    same_time,
    tokenise,
)

_TITLES = frozenset("doctor dr professor prof sir dame".split())
_OFFICES = frozenset("president king queen emperor pope captain general saint prince".split())
_BEFORE_NAMES = frozenset("mount river planet element language".split())
_AFTER_NAMES = frozenset("language languages river ocean desert dynasty element".split())
# "A major" is a key, not an article.
_AFTER_LETTER = frozenset("major minor flat sharp level".split())
_VOWELS = tuple("aeiouy")
# Words that are names in capitals.
_WORDS_TOO = frozenset("who us it am pm in or aids era".split())
_PRONOUNS = frozenset("it he she they".split())
_OF = frozenset("city state republic kingdom province island".split())


def list_variants(alias: str, applied: frozenset[str]) -> list[tuple[Token, ...]]:
    """The words of an alias without articles, as a whole and without what may be left out.

    What stands before brackets, and either side of "Kolkata/Calcutta", will do alone.
    """
    texts = [alias]
    if match := regex.fullmatch(r"(.+?)\s*\(([^()]+)\)", alias):
        texts.append(match[1])
    if match := regex.fullmatch(r"(\p{L}[\p{L} ]+?)\s*/\s*(\p{L}[\p{L} ]+)", alias):
        texts += match.groups()
    if match := regex.fullmatch(r"(\p{Lu}\w+) or (\p{Lu}\w+)", alias):  # Bern or Berne
        texts += match.groups()
    variants = [tokenise(text, applied) for text in texts]
    variants = [drop_articles(tokens) for tokens in variants]
    if "categories" in applied:
        variants += [shorter for tokens in variants for shorter in _without_category(tokens)]
    return [tokens for tokens in variants if tokens]


def drop_articles(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """`tokens` without articles before a word: the A of "Vitamin A" and of "A) Lima" is none."""
    kept = [
        token
        for token, after in zip_longest(tokens, tokens[1:])
        if not (
            token.key in ARTICLES
            and after is not None
            and not after.gap.strip(" \"'“”‘’«»")
            and not (token.text == "A" and after.key in _AFTER_LETTER)
        )
    ]
    return tuple(kept) or tuple(tokens)


def _without_category(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    found = []
    rest = list(tokens)
    while len(rest) > 1 and rest[0].key in _TITLES | _BEFORE_NAMES and len(rest[1].text) > 3:
        rest = rest[1:]
        found.append(tuple(rest))
    if len(tokens) > 1 and tokens[-1].key in _AFTER_NAMES:
        found.append(tuple(tokens[:-1]))
    if len(tokens) > 1 and tokens[0].key in _PRONOUNS:
        found.append(tuple(tokens[1:]))
    if len(tokens) > 2 and tokens[0].key in _OF and tokens[1].key == "of":
        found.append(tuple(tokens[2:]))
    return found


def find_occurrences(said: Sequence[Token], wanted: Sequence[Token], applied, asked):
    """Yield the tokens [start, end) of `said` that are `wanted`, between them no articles."""
    plain = [
        at
        for at, (token, after) in enumerate(zip_longest(said, said[1:]))
        if token.key not in ARTICLES
        or (token.text == "A" and after is not None and after.key in _AFTER_LETTER)
    ]
    alone = sum(isinstance(token.key, Quantity) for token in said) == 1
    if not any(token.key in ARTICLES for token in wanted):
        for first in range(len(plain) - len(wanted) + 1):
            places = plain[first : first + len(wanted)]
            if matches_at([said[at] for at in places], 0, wanted, applied, asked, alone):
                yield places[0], places[-1] + 1
    for at in range(len(said) - len(wanted) + 1):
        if matches_at(said, at, wanted, applied, asked, alone):
            yield at, at + len(wanted)
    if "name_order" in applied and len(wanted) == 2 and _allows_turning(said, asked):
        for at in range(len(said) - 1):
            if _is_turned(said[at : at + 2], wanted):
                yield at, at + 2
    if "initials" in applied and len(wanted) > 1:
        for at in range(len(said) - 1):
            for width in range(1, min(4, len(said) - at)):
                if _has_same_initials(said[at : at + width + 1], wanted):
                    yield at, at + width + 1
    titled = len(said) == 2 and len(wanted) > 1 and said[0].key in {t.key for t in asked}
    if (
        "categories" in applied
        and titled
        and said[1].key == wanted[-1].key
        and (said[0].key in _OFFICES)
    ):
        yield 0, 2  # "President Wilson"
    if "spacing" in applied:
        yield from _find_joined(said, "".join(str(token.key) for token in wanted))


def _find_joined(said: Sequence[Token], letters: str):
    """Tokens [start, end) that are `letters` when written as one word, or the other way round."""
    if len(letters) < 6 or not letters.isalpha():
        return
    for start in range(len(said)):
        joined = ""
        for end in range(start, len(said)):
            if end > start and not (said[end].text[:1].isupper() or said[end].gap == "-"):
                break
            joined += str(said[end].key)
            if joined == letters:
                yield start, end + 1
            if len(joined) >= len(letters) or (end > start and said[end].gap not in ("", " ", "-")):
                break


def _allows_turning(said: Sequence[Token], asked: Sequence[Token]) -> bool:
    """Whether the question asks for a person, and the answer has no title such as King."""
    question = " ".join(token.text for token in asked)
    titles = _TITLES | _OFFICES
    return asks_for_person(question) and not any(token.key in titles for token in said)


def _is_turned(said: Sequence[Token], wanted: Sequence[Token]) -> bool:
    """Whether two words are the family name and the first name of `wanted`."""
    return (
        said[0].key == wanted[1].key
        and said[1].key == wanted[0].key
        and said[1].gap.strip() in ("", ",")
        and all(token.text[:1].isupper() for token in (*said, *wanted))
        and not DIRECTIONS & {token.text for token in said}
    )


def _has_same_initials(said: Sequence[Token], wanted: Sequence[Token]) -> bool:
    """Whether both end in the same surname, and one has initials for the other's first names."""
    if said[-1].key != wanted[-1].key or not said[-1].text[:1].isupper():
        return False
    letters = []
    for names in (said[:-1], wanted[:-1]):
        if not all(isinstance(name.key, str) and name.text[:1].isupper() for name in names):
            return False
        initials = [
            len(names) == 1 and name.text.isupper() and len(name.text) <= 3 for name in names
        ]
        letters.append(("".join(name.key if short else name.key[0] for name, short in
                                zip(names, initials, strict=True)), all(initials)))  # fmt: skip
    (one, one_short), (other, other_short) = letters
    # "J. Q. Adams" is not John Adams, but "J. Adams" may be John Quincy Adams
    return (one_short and other.startswith(one)) or (other_short and one.startswith(other))


def _is_misspelled(word: str, other: str, at_least: int = 7) -> bool:
    """Whether two words differ by a doubled letter, or by a vowel within a long word.

    Other letters, and endings, make other words: sulfite, Antonia, Johnson. at_least: letters of
    both words.
    """
    lengths = len(word), len(other)
    if min(lengths) < at_least or not (word.isalpha() and other.isalpha()) or word[0] != other[0]:
        return False
    same = 0
    while same < min(lengths) and word[same] == other[same]:
        same += 1
    rests = word[same:], other[same:]
    if lengths[0] == lengths[1]:
        vowels = all(rest[:1] in _VOWELS for rest in rests)
        return vowels and at_least >= 7 and rests[0][1:] == rests[1][1:] and len(rests[0]) > 3
    longer, shorter = sorted(rests, key=len, reverse=True)
    doubled = longer[:1] == word[same - 1 : same] or (longer == "e" and at_least < 7)
    return doubled and longer[1:] == shorter


def _has_umlauts(said: Token, wanted: Token) -> bool:
    """Whether one word has an umlaut where the other has an e more: Röntgen, Roentgen."""
    if not regex.search("[äöüÄÖÜ]", said.text + wanted.text):
        return False
    return len({regex.sub("(?<=[aou])e", "", str(token.key)) for token in (said, wanted)}) == 1


def matches_at(said, at: int, wanted, applied, asked, alone: bool = False) -> bool:
    pairs = list(zip(said[at : at + len(wanted)], wanted, strict=True))
    differing = [
        (token.key, other.key)
        for token, other in pairs
        if not _same(token, other, applied, asked, alone)
    ]
    if not differing:
        return True
    # "Mary Anne Evans" is Mary Ann Evans
    return (
        "spelling" in applied
        and len(wanted) > 2
        and len(differing) == 1
        and differing[0][1] != wanted[-1].key
        and all(isinstance(key, str) for key in differing[0])
        and _is_misspelled(*differing[0], at_least=3)
    )


def _same(said: Token, wanted: Token, applied, asked, alone: bool) -> bool:
    """Whether two tokens are equal. alone: whether `said` is the answer's only quantity."""
    one, other = said.key, wanted.key
    if isinstance(one, Quantity) and isinstance(other, Quantity):
        if "question_units" in applied and (unit := _asked_unit(asked)):
            if not other.unit and one.unit and alone and converts(one.unit, unit):
                other = Quantity(other.value, unit)
            elif other.unit and not one.unit and converts(other.unit, unit):
                one = Quantity(one.value, unit)
        return equals(one, other)
    if isinstance(one, str) and isinstance(other, str):
        if one == other:
            # "who" is not WHO
            return not (wanted.text.isupper() and said.text.islower() and one in _WORDS_TOO)
        # names of two spellings are two names: Williams is not William
        names = said.text[:1].isupper() and wanted.text[:1].isupper()
        return (
            same_time(one, other)
            or ("plurals" in applied and not names and find_singular(one) == find_singular(other))
            or (
                "spelling" in applied and (_is_misspelled(one, other) or _has_umlauts(said, wanted))
            )
        )
    return False


def _asked_unit(asked: Sequence[Token]) -> str | None:
    """The unit that a question asks for: "How many kilometers", "in degrees Celsius"."""
    keys = [token.text for token in asked]
    for at, word in enumerate(keys):
        if word.casefold() in ("percent", "percentage"):
            return "percent"
        if word.casefold() in ("many", "in"):
            for width in (3, 2, 1):
                if unit := find_unit(" ".join(keys[at + 1 : at + 1 + width])):
                    return unit
    return None
