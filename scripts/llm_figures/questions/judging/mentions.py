"""What an answer does with a text that occurs in it: states it, denies it, or only repeats it."""

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches

import regex

from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.words import ARTICLES, Token, fold

_NOT = frozenset(
    "not never no nobody isnt wasnt arent werent dont doesnt didnt cannot cant couldnt wont "
    "wouldnt neither nor without except excluding unlike aint hardly nicht kein keine keinen pas "
    "ne не нет nao não".split()
)
_NOT_CHARACTERS = regex.compile("(?:不是|并非|並非|而非|绝非|不叫|不属于|不在|没有|沒有|并不是)$")
_BEFORE = (
    ("rather", "than"),
    ("instead", "of"),
    ("other", "than"),
    ("opposed", "to"),
    ("far", "from"),
    ("doubt", "it"),
    ("opposite", "of"),
)
_BOUNDS = {
    ("more", "than"), ("less", "than"), ("fewer", "than"), ("greater", "than"), ("at", "least"),
    ("at", "most"), ("up", "to"), ("over",), ("under",), ("above",), ("below",), ("before",),
    ("after",), ("exceeds",),
}  # fmt: skip
_NOT_QUITE = frozenset("only just merely doubt longer".split())
_BE = frozenset("is was are were would be does did seems".split())
_BE_NOT = frozenset("isnt wasnt arent werent cannot".split())
_FALSE = frozenset("not incorrect wrong false".split())
_OR = frozenset("or oder ou или أو या 或".split())
# Three names in a row, one or two words each.
_NAME = r"\p{Lu}\w*(?: \p{Lu}\w*)?"
_THREE = regex.compile(rf"^\s*{_NAME}(?:, {_NAME})+,? and {_NAME}\s*$")
_MAYBE = frozenset("maybe perhaps possibly".split())
_DASHES = frozenset("- – —".split())
_OR_SO = frozenset(
    "about approximately roughly simply equivalently so more less fewer thereabouts later "
    "not".split()
)
_VERBS = frozenset("is was are were which who because since as but and whether if".split())
_CLAUSE = regex.compile(r"[,;:—–…()\n]|\s-\s|\.(?:\s|$)")
_BUT = frozenset("but however although though aber mais pero sino sondern но".split())
_NO_TAKEN_BACK = r"[Nn]o\b(?=\s*[,;.:…—–!-]|\s+(?:it|it['’]s|that|wait|sorry|[\p{Lu}\d])\b)"
# "London – no, Paris", "London, or rather Paris"
_CORRECTION = regex.compile(
    r"(?<=\w[\"'”’)]*)"
    r"(?:\s*[,;.:…?—–-]+\s*(?:(?:oh|ah|um|uh|hmm|well|actually),?\s+)?"
    rf"(?:{_NO_TAKEN_BACK}|[Ww]ait\b|[Ss]orry\b|[Cc]orrection\b|[Ss]cratch\s+that|"
    r"[Oo]ops\b|or\s+rather\b|"
    r"but\s+(?:it\s+is|it['’]s|actually|in\s+fact|the\s+(?:correct|right|real)\s+answer\s+is)\b)"
    r"|\s+(?:[Ii]\s+mean|make\s+that|or\s+rather)\b)"
    r"[\s,;:.…—–!-]*(?=.*\w)",
    regex.DOTALL,
)
DIRECTIONS = frozenset(
    "New North South East West Northern Southern Eastern Western Central Equatorial Papua Upper "
    "Lower".split()
)
_FOLLOWING = frozenset(
    "City University College Falls Canal Delta Bay Beach Canyon Verde Bissau Sudan Zone "
    "Strait".split()
)
_SAME_CITY = frozenset({"york", "minh", "vatican", "lake"})
_PREFIXES = frozenset("non anti ex pre post sub semi pseudo un".split())
_COMPOUND = (
    r"(?:mono|di|tri|tetra|per)?(?:oxide|chloride|sulfate|sulfide|nitrate|carbonate|hydroxide|"
    r"fluoride|bromide|iodide|phosphate|bicarbonate)$"
)
_GENERATIONS = frozenset("jr sr junior senior".split())
_FILLERS = frozenset(
    "of in is was are the a an to for and by on at it that this which what who".split()
)

_RELATIVE = regex.compile(
    r",\s*(?:who|whose|whom|which|after|before|succeeding|following|replacing|unlike|"
    r"(?:the\s+)?(?:son|daughter|brother|sister|wife|husband|father|mother|student|successor|"
    r"predecessor)\s+of)\b"
)
# How alike two spellings of a first name are.
_ALIKE = 0.75
# Capitalised words before a surname that are no first names.
_NO_NAMES = frozenset(
    "sir dr doctor prof professor mr mrs ms dame lord lady president king queen prince emperor "
    "saint pope general captain composer author writer painter poet physicist scientist the a an "
    "by it is was of and van von de da di le la del der herr frau monsieur madame señor maybe "
    "perhaps probably answer actor actress director singer philosopher inventor".split()
)

# Questions for a person: only there is a word before a surname a first name.
_ASKS_FOR_PERSON = regex.compile(
    r"\b(?:who|whom|whose|wer|wessen|qui|quién|quiénes|quem|chi|кто|кем|чей)\b|谁|誰|누가|누구|"
    r"कौन|किसने|من (?:هو|هي|كتب|الذي)|"
    r"\b(?:which|what|name)\b.{0,40}\b(?:person|man|woman|president|actor|actress|author|writer|poet|"
    r"composer|painter|artist|singer|musician|director|scientist|physicist|chemist|mathematician|"
    r"philosopher|inventor|explorer|emperor|king|queen|leader|minister|player|athlete|character|"
    r"astronaut|architect|economist|general|pope|monarch|novelist|playwright)\b|"
    r"的人|人是|作者|总统|導演|导演|作曲家",
    regex.IGNORECASE,
)

Match = Callable[[Sequence[Token], int], bool]


def withdraw(exact: str) -> str:
    """`exact` without what it takes back: "Paris" of "London – no, Paris"."""
    corrections = list(_CORRECTION.finditer(exact))
    return exact[corrections[-1].end() :] if corrections else exact


def is_negated(tokens: Sequence[Token], start: int, end: int) -> bool:
    """Whether an answer denies its tokens [start, end): "not Paris", "Paris is wrong"."""
    text = "".join(token.text for token in tokens[max(0, start - 6) : start])
    if _NOT_CHARACTERS.search(text):
        return True
    keys = [token.key for token in tokens[max(0, start - 3) : start]]
    if keys[-2:] == ["anything", "but"]:
        return True
    # "north of Paris" is another place, "in the north of Africa" is not
    directed = keys[-2:] in (["north", "of"], ["south", "of"], ["east", "of"], ["west", "of"])
    if directed and keys[:-2] not in (["the"], ["north"], ["south"]):
        return True
    for at in range(start - 1, max(start - 6, -1), -1):
        if _CLAUSE.search(tokens[at + 1].gap) or tokens[at].key in _BUT:
            break
        key = tokens[at].key
        following = tokens[at + 1].key if at + 1 < start else ""
        if key in _NOT and not (
            following in _NOT_QUITE
            or str(following).endswith("ly")
            or (key == "without" and any(token.key == "doubt" for token in tokens[at:start]))
        ):
            return any(token.key == "until" for token in tokens[at:start]) is False
        if at and (tokens[at - 1].key, key) in _BEFORE:
            # "none other than Einstein"
            return not (at > 1 and tokens[at - 2].key in ("none", "no"))
        if key == "than":
            return True
    after = tokens[end : end + 3]
    keys = [token.key for token in after]
    if after and not _CLAUSE.search(after[0].gap):
        if keys[0] in _BE_NOT or keys[0] in ("не",):
            return True
        if len(keys) > 1 and keys[0] in _BE and keys[1] in _FALSE and keys[2:] != ["only"]:
            return True
        text = "".join(token.text for token in tokens[end : end + 8])
        if regex.match(
            r"(?:では|じゃ)(?:ない|あり)|が?아니|이?아닙|(?:不是|并非|不对)(?:$|的|答案)", text
        ):
            return True
    return False


def is_one_of_several(tokens: Sequence[Token], start: int, end: int, is_gold: Match) -> bool:
    """Whether tokens [start, end) are one of several candidates: "Paris or Lyon".

    is_gold(tokens, index): whether a gold answer begins there; "sodium or Na" names one answer.
    """
    if _is_listed(tokens, start, end) and not any(
        is_gold(tokens, at) for at in range(len(tokens)) if not start <= at < end
    ):
        return True
    joint = _find_or(tokens, end)
    if joint is not None:
        offset = joint + 1
        while offset < len(tokens) and tokens[offset].key in ARTICLES:
            offset += 1
        rest = tokens[offset:]
        # "Moby-Dick; or, The Whale" is one title
        title = ";" in tokens[joint].gap or (rest and "," in tokens[joint + 1].gap)
        if rest and not title and rest[0].key not in _OR_SO:
            return not is_gold(tokens, offset)
    before = start - 1
    while before >= 0 and tokens[before].key in ARTICLES:
        before -= 1
    if before > 0 and tokens[before].key in _OR:
        return not any(is_gold(tokens, at) for at in range(before))
    return False


def _is_listed(tokens: Sequence[Token], start: int, end: int) -> bool:
    """Whether tokens [start, end) stand in "1 and 2", "7-9", "Paris/Lyon", "Paris, maybe Lyon"."""
    number = isinstance(tokens[start].key, Quantity)
    before = tokens[start - 1] if start else None
    after = tokens[end] if end < len(tokens) else None
    if number:
        # a dash before it or after it, with a number on the other side
        dashes = [(start - 1, start), (end, end)]
        words = [(start - 2, start - 1), (end + 1, end)]
        return any(
            0 <= other < len(tokens)
            and isinstance(tokens[other].key, Quantity)
            and (tokens[link].gap.strip() in _DASHES)
            for other, link in dashes
        ) or any(
            0 <= other < len(tokens)
            and isinstance(tokens[other].key, Quantity)
            and tokens[link].key in ("and", "to")
            for other, link in words
        )
    capital = tokens[start].text[:1].isupper()
    if after is not None and after.gap.strip() == "/" and after.text[:1].isupper() and capital:
        return True
    if before is not None and tokens[start].gap.strip() == "/" and before.text[:1].isupper():
        return capital
    if after is not None and "," in after.gap and after.key in _MAYBE:
        return True
    # "Paris, London and Rome"
    names = [token.key for token in tokens if token.text[:1].isupper()]
    return capital and len(names) > 2 and bool(_THREE.search(_join(tokens)))


def _join(tokens: Sequence[Token]) -> str:
    return "".join(f"{token.gap}{token.text}" for token in tokens)


def _find_or(tokens: Sequence[Token], end: int) -> int | None:
    """The index of the "or" of a list that goes on at `end`: "Paris or", "Paris, Lyon or"."""
    for at in range(end, min(end + 7, len(tokens))):
        if tokens[at].key in _OR:
            return at
        if at == end and "," not in tokens[at].gap:
            return None
        if regex.search(r"[;:.()\n]", tokens[at].gap) or tokens[at].key in _VERBS:
            return None
    return None


def is_bound(tokens: Sequence[Token], start: int) -> bool:
    """Whether the number at `start` only bounds the answer: "more than 12", "at least 12"."""
    if not isinstance(tokens[start].key, Quantity):
        return False
    before = tuple(token.key for token in tokens[max(0, start - 2) : start])
    return before[-2:] in _BOUNDS or before[-1:] in _BOUNDS


def is_part_of_a_name(tokens: Sequence[Token], start: int, end: int, person: bool = False) -> bool:
    """Whether tokens [start, end) are part of a longer name: "Guinea" of "Guinea-Bissau".

    person: whether the question asks for a person: "Martin Luther King" is not Martin Luther.
    """
    first, last = tokens[start], tokens[end - 1]
    before = tokens[start - 1] if start else None
    after = tokens[end] if end < len(tokens) else None
    if before is not None and (
        (first.gap == "-" and before.key in _PREFIXES) or before.key in ("vice", "former")
    ):
        return True
    beside = after is not None and after.gap == " "
    if beside and regex.match(_COMPOUND, str(after.key)):  # carbon dioxide
        return True
    if not (first.text[:1].isupper() and last.text[:1].isupper()):
        return False
    if before is not None:
        if first.gap == "-" and before.text[:1].isupper() and isinstance(before.key, str):
            return True
        if before.text in DIRECTIONS and not _CLAUSE.search(first.gap):
            return True
        if before.key == "democratic":
            return True
    if after is None:
        return False
    if after.key == "dc" or (after.gap == "-" and after.text[:1].isupper()):
        return True  # Washington, D.C.
    if after.gap != " ":
        return False
    if after.text in _FOLLOWING:
        return not (after.text == "City" and str(last.key) in _SAME_CITY)
    if isinstance(after.key, Quantity):  # Toy Story 2
        return end + 1 == len(tokens) and end - start > 0 and not after.key.unit
    return person and end - start > 1 and after.text[:1].isupper() and after.key not in _GENERATIONS


def asks_for_person(question: str) -> bool:
    """Whether a question asks for a person's name."""
    return bool(_ASKS_FOR_PERSON.search(question))


def is_other_person(tokens: Sequence[Token], start: int, names: Sequence[Sequence[Token]]) -> bool:
    """Whether the surname at `start` follows first names that no full name among `names` has.

    names: the gold answers; the surname alone is one of them, and must end another.
    """
    surname = tokens[start].key
    full = [name for name in names if len(name) > 1 and name[-1].key == surname]
    if not full:
        return False
    known = [str(token.key) for name in full for token in name[:-1]]
    letters = {name[0] for name in known}
    given = []
    at = start
    while at and tokens[at].gap.strip() in ("", ".") and tokens[at - 1].text[:1].isupper():
        at -= 1
        key, initial = tokens[at].key, tokens[at].text.isupper() and len(tokens[at].text) <= 3
        if not isinstance(key, str) or key in _NO_NAMES:
            break
        if not (initial and set(key) <= letters):
            given.append(key)
    return bool(given) and not any(get_close_matches(key, known, 1, _ALIKE) for key in given)


def is_other_dotted_person(exact: str, alias: str, gold: Sequence[str]) -> bool:
    """The same for names of other scripts written with a dot: 路易斯·阿姆斯特朗."""
    dotted = regex.search(rf"((?:[^\s·・]+[·・])+){regex.escape(alias)}", exact)
    names = [regex.split("[·・]", other) for other in gold]
    known = {part for name in names if len(name) > 1 and name[-1] == alias for part in name[:-1]}
    return bool(dotted and known) and not known & set(regex.split("[·・]", dotted[1]))


def is_aside(tokens: Sequence[Token], start: int, end: int, exact: str) -> bool:
    """Whether tokens [start, end) stand in a clause about another name: "Ford, who followed Nixon".

    exact: the text of the tokens.
    """
    before = exact[: exact.find(tokens[start].text)] if tokens[start].text in exact else ""
    clauses = list(_RELATIVE.finditer(before))
    if not clauses or not regex.search(r"\p{Lu}\w+", before[: clauses[-1].start()]):
        return False
    # "the president, who was Nixon" is no aside
    return not regex.match(r"\s*(?:is|was|are|were|'s)\s*(?:the\s*)?$", before[clauses[-1].end() :])


def is_echo(tokens: Sequence[Token], start: int, end: int, question: Sequence[Token]) -> bool:
    """Whether tokens [start, end) stand in the question with the same words around them."""
    keys = [token.key for token in tokens]
    asked = [token.key for token in question]
    width = end - start
    for at in range(len(asked) - width + 1):
        if asked[at : at + width] != keys[start:end]:
            continue
        left = right = 0
        while start - left > 0 and at - left > 0 and keys[start - left - 1] == asked[at - left - 1]:
            left += 1
        while (
            end + right < len(keys)
            and at + width + right < len(asked)
            and keys[end + right] == asked[at + width + right]
        ):
            right += 1
        around = keys[start - left : start] + keys[end : end + right]
        if any(key not in _FILLERS for key in around):
            return True
    return False


def occurs_in_question(gold: Collection[str], question: Sequence[Token]) -> bool:
    """Whether the words of a gold answer are all in the question."""
    return set(gold) <= {token.key for token in question}


def is_denial(word: str) -> bool:
    return fold(word) in _NOT
