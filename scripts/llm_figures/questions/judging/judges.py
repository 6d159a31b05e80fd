"""The judges: whether an exact answer is one of the gold answers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from string import ascii_uppercase

import regex

from llm_figures.questions.judging import mentions
from llm_figures.questions.judging.choice_letters import find_letters
from llm_figures.questions.judging.matching import (
    drop_articles,
    find_occurrences,
    list_variants,
    matches_at,
)
from llm_figures.questions.judging.mathematics import equal_expressions, is_mathematical
from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.rules import EQUALITIES
from llm_figures.questions.judging.words import tokenise
from llm_figures.questions.judging.yes_no import find_polarity, read_polarity
from llm_figures.questions.options import ExactAnswer
from llm_figures.questions.spans import find_exact_answer

# Reasons to look at a judgement again, the strongest first.
DOUBTS = (
    "says both yes and no",
    "names the letter of one choice and the text of another",
    "gives several letters",
    "names several answers",
    "a statement in place of yes or no",
    "only repeats words of the question",
    "a gold answer is denied",
    "a gold answer is part of a longer name",
    "another person of that name",
    "a gold answer is mentioned in passing",
    "a gold answer only bounds the answer",
    "takes an answer back",
    "spelled almost like a gold answer",
    "part of a gold answer",
    "the gold answer occurs elsewhere in the answer",
    "the answer was cut at max_new_tokens",
    "a gold answer occurs in the question",
    "a gold answer among many other words",
    "several numbers",
    "equal by a rule",
)
_LONG = 12
# Characters of an answer, and of a question, that are read.
_LONGEST = 1000
_ALIKE = 0.8

_SMALL = frozenset("the a an of in to it is was he she they".split())
_LETTER = regex.compile(r"\s*[(\[]?([A-Z])[)\].:]?\s*")


@dataclass(frozen=True)
class Judgement:
    """right: whether the answer is right. rule: what decided. doubt: one of `DOUBTS`, or "".

    off_option: whether the answer names none of the question's options.
    """

    right: bool
    rule: str
    doubt: str = ""
    off_option: bool = False


def judge(
    method: str,
    exact: str,
    gold: Sequence[str],
    question: str = "",
    choices: Sequence[str] = (),
    rules: Collection[str] = (),
) -> Judgement:
    """Judge the exact answer of a question.

    gold: right answers, any of which will do. choices: the texts of the choices A, B, …, if the
    question has any. rules: names of `rules.RULES`.

    method:
        contains: an alias occurs as whole words. A gold answer that is a letter, yes or no, or an
            expression is judged as by choice, by what the answer affirms, or as by numeric.
        exact: the whole exact answer equals an alias.
        numeric: the answer's value or expression equals an alias.
        choice: the letter that the answer gives, or else the text of a choice, is an alias.
    """
    rules = frozenset(rules)
    exact, question = exact[:_LONGEST], question[:_LONGEST]
    gold = [alias[:_LONGEST] for alias in gold if alias.strip()]
    match method:
        case "contains":
            return _judge_contained(exact, gold, question, choices, rules)
        case "exact":
            return _judge_exact(exact, gold, question, rules)
        case "numeric":
            return _judge_numeric(exact, gold, question, rules)
        case "choice":
            return _judge_choice(exact, gold, question, choices, rules)
    raise ValueError(f"unknown method {method!r}")


def names_option(
    exact: str,
    gold: Sequence[str],
    wrong: Sequence[str],
    question: str = "",
    choices: Sequence[str] = (),
    rules: Collection[str] = (),
) -> bool:
    """Whether an exact answer names one of a question's options.

    wrong: the options that are no right answers. The other arguments are those of `judge`. An
    option is named by its letter; by its text, even where it is denied; by a part of its text that
    no other option has; and, where yes or no is right, by any answer that says either.
    """
    applied = frozenset(rules) & EQUALITIES.keys()
    exact, question = exact[:_LONGEST], question[:_LONGEST]
    options = [text[:_LONGEST] for text in (*gold, *wrong) if text.strip()]
    letters = {match[1] for text in options if (match := _LETTER.fullmatch(text))}
    letters.update(ascii_uppercase[: len(choices)])
    if letters.intersection(find_letters(exact)):
        return True
    if find_polarity(gold, question) is not None and read_polarity(exact, question)[0] is not None:
        return True
    texts = [text for text in options if not _LETTER.fullmatch(text)]
    # with no rule that rules an answer out: "not iron" names iron
    if any(_judge_words(exact, [text], "", applied).right for text in texts):
        return True
    # other names of the right answer are no other option
    return bool(_list_wholes(exact, gold)) + len(_list_wholes(exact, wrong)) == 1


def could_match(
    method: str,
    gold: Sequence[str],
    question: str,
    choices: Sequence[str],
    rules: Collection[str],
    frame: str | None,
    options: ExactAnswer,
) -> bool:
    """Whether an answer that is a gold answer, word for word, would be judged right.

    Gold answers fail that are no number for `numeric`, hold several sentences where the exact
    answer is one, or have no words. The arguments are those of `judge`, and the question's frame
    with the options of its exact answer.
    """
    for alias in gold:
        answer = {
            "boxed": f"\\boxed{{{alias}}}",
            "final_answer": f"The answer is {alias}",
            "regex": None,
            "model": None,
        }.get(options.method, f"{frame} {alias}" if frame and options.method != "line" else alias)
        exact = alias
        if answer is not None:
            use_frame = frame if options.method in ("auto", "frame") else None
            span, _ = find_exact_answer(answer, use_frame, options)
            exact = answer[slice(*span)] if span else ""
        if exact and judge(method, exact, gold, question, choices, rules).right:
            return True
    return False


def _judge_contained(exact, gold, question, choices, rules) -> Judgement:
    if choices:
        return _judge_choice(exact, gold, question, choices, rules)
    polarity = find_polarity(gold, question)
    if polarity is not None:
        text = mentions.withdraw(exact) if "corrections" in rules else exact
        said, doubt = read_polarity(text, question)
        return Judgement(said is polarity, "yes_no", doubt)
    if any(_LETTER.fullmatch(alias) for alias in gold):
        return _judge_choice(exact, gold, question, choices, rules)
    return _judge_words(exact, gold, question, rules)


def _judge_words(
    exact: str, gold: Sequence[str], question: str, rules, last: bool = False
) -> Judgement:
    """Whether an alias is stated: expressions as such, everything else as words.

    last: whether no number may follow it.
    """
    if "ranges" in rules and "ratio" in question.casefold():
        exact, *gold = (regex.sub(r"(?<=\d)\s?:\s?(?=\d)", " to ", text) for text in (exact, *gold))
    text = exact
    if "corrections" in rules and not any(mentions.withdraw(alias) != alias for alias in gold):
        text = mentions.withdraw(exact)
    wrong = Judgement(False, "contains")
    if text != exact:
        wrong = Judgement(False, "corrections", "takes an answer back")
    expressions = [alias for alias in gold if "mathematics" in rules and is_mathematical(alias)]
    if any(equal_expressions(text, alias) for alias in expressions):
        return Judgement(True, "mathematics")
    worded = [alias for alias in gold if alias not in expressions]
    if "mathematics" in rules and is_mathematical(text):
        # 5 is no answer to "5\\pi", and in "3 + 4 = 8" only 8 is
        numbers = [alias for alias in worded if _is_number(alias) or len(alias.strip()) == 1]
        if any(equal_expressions(text, alias) for alias in numbers):
            return Judgement(True, "mathematics")
        worded = [alias for alias in worded if alias not in numbers]
    applied = frozenset(rules & EQUALITIES.keys())
    said, asked = tokenise(text, applied), tokenise(question, applied)
    for alias in worded:
        for wanted in list_variants(alias, applied):
            reasons = [
                _exclude(text, said, at, end, question, asked, worded, rules, applied)
                for at, end in find_occurrences(said, wanted, applied, asked)
                if not last or not any(isinstance(t.key, Quantity) for t in said[end:])
            ]
            if None in reasons:
                rule = _find_rule("contains", text, alias, applied, asked_text=question)
                return Judgement(True, rule, _doubt_right(said, wanted, asked, rule))
            if reasons and not wrong.doubt:
                wrong = Judgement(False, *reasons[0])
        if not tokenise(alias, applied) and alias.strip() in text:
            # an alias without words, such as "+" or an emoji, may occur anywhere
            return Judgement(True, "contains")
    return wrong if wrong.doubt else Judgement(False, "contains", _doubt_wrong(text, gold))


def _find_rule(method: str, text: str, alias: str, applied: frozenset[str], asked_text: str) -> str:
    """The rule that makes an alias equal: none but the method itself, one alone, or several."""
    sets = {rule: frozenset({rule}) for rule in EQUALITIES if rule in applied}
    if "question_units" in sets:
        sets["question_units"] = frozenset({"units", "question_units"}) & applied
    for rule, few in {method: frozenset(), **sets}.items():
        said, asked = tokenise(text, few), tokenise(asked_text, few)
        if method == "exact":
            said = drop_articles(said)
        for wanted in list_variants(alias, few):
            found = find_occurrences(said, wanted, few, asked)
            if any(method != "exact" or (at, end) == (0, len(said)) for at, end in found):
                return rule
    return "several rules"


def _is_number(alias: str) -> bool:
    tokens = tokenise(alias, frozenset({"fractions", "thousands"}))
    return len(tokens) == 1 and isinstance(tokens[0].key, Quantity)


def _judge_exact(exact: str, gold: Sequence[str], question: str, rules) -> Judgement:
    expressions = [alias for alias in gold if "mathematics" in rules and is_mathematical(alias)]
    if any(equal_expressions(exact, alias, whole=True) for alias in expressions):
        return Judgement(True, "mathematics")
    applied = frozenset(rules & EQUALITIES.keys())
    said, asked = drop_articles(tokenise(exact, applied)), tokenise(question, applied)
    for alias in gold:
        if exact.strip() == alias.strip():
            return Judgement(True, "exact")
        for wanted in list_variants(alias, applied) if alias not in expressions else ():
            if (0, len(said)) in find_occurrences(said, wanted, applied, asked):
                rule = _find_rule("exact", exact, alias, applied, asked_text=question)
                return Judgement(True, rule, "" if rule == "exact" else "equal by a rule")
    return Judgement(False, "exact", _doubt_wrong(exact, gold))


def _judge_numeric(exact: str, gold: Sequence[str], question: str, rules) -> Judgement:
    """As by contains, but for values alone, and the answer's last value counts."""
    numbers = [alias for alias in gold if is_mathematical(alias) or _holds_number(alias, rules)]
    judgement = _judge_words(exact, numbers, question, rules, last=True)
    if judgement.rule == "contains":
        values = [t.key for t in tokenise(exact, rules) if isinstance(t.key, Quantity)]
        doubt = "several numbers" if len(set(values)) > 1 else judgement.doubt
        return Judgement(judgement.right, "numeric", doubt)
    return judgement


def _holds_number(alias: str, rules) -> bool:
    return any(
        isinstance(token.key, Quantity) or token.key[:1].isdigit()
        for token in tokenise(alias, frozenset(rules))
    )


def _judge_choice(exact, gold, question, choices, rules) -> Judgement:
    letters = [match[1] for alias in gold if (match := _LETTER.fullmatch(alias))]
    texts = [alias for alias in gold if not _LETTER.fullmatch(alias)]
    text = mentions.withdraw(exact) if "corrections" in rules else exact
    # the C of the choice "Vitamin C" is no letter of a choice
    plain = text
    for choice in choices:
        if regex.search(r"\b[A-Z]\b", choice) and len(choice) > 1:
            plain = plain.replace(choice, " ")
    given = find_letters(plain)
    if choices:
        given = [letter for letter in given if ord(letter) - ord("A") < len(choices)]
    named = _find_named_choices(text, choices, rules)
    if letters and len(given) == 1:
        # "B. Paris", where Paris is the text of C
        beside = _find_named_choices(_find_text_beside(text, given[0]), choices, rules)
        if beside and ord(given[0]) - ord("A") not in beside:
            return Judgement(
                False, "choice", "names the letter of one choice and the text of another"
            )
        return Judgement(given[0] in letters, "choice")
    if choices and not named:
        named = _find_part_of_choice(text, choices)
    if letters and len(given) > 1:
        return Judgement(False, "choice", "gives several letters")
    if choices:
        right = [at for at in named if chr(ord("A") + at) in letters or choices[at] in texts]
        if len(named) > 1:
            return Judgement(False, "choice", "names several answers")
        if named:
            return Judgement(bool(right), "choice")
    if texts:
        return _judge_words(exact, texts, question, rules)
    return Judgement(False, "choice", _doubt_wrong(text, texts))


def _find_text_beside(text: str, letter: str) -> str:
    """The text of a choice that stands beside its letter: "B. Paris", "B is Paris", "Paris (B)"."""
    if after := regex.search(
        rf"(?<![\w-]){letter}\b[)\].:*]*\s*(?:[–—-]\s+)?(?:is\s+|=\s+)?([^;\n]*)", text
    ):
        beside = regex.split(r"\.\s|,\s|\b(?:because|since|as|not|and|or|but)\b", after[1])[0]
        if regex.search(r"\w", beside):
            return beside
    before = regex.search(rf"([^,;.\n]+)[(\[]{letter}[)\]]", text)
    return before[1] if before else ""


def _find_named_choices(text: str, choices: Sequence[str], rules) -> list[int]:
    """Indices of the choices whose text the answer states; not those within a longer one."""
    plain = [rule for rule in rules if rule not in ("echo", "longer_names", "alternatives")]
    found = [
        at
        for at, choice in enumerate(choices)
        if choice.strip() and _judge_words(text, [choice], "", frozenset(plain)).right
    ]
    return [
        at
        for at in found
        if not any(
            other != at
            and choices[other] != choices[at]
            and _judge_words(choices[other], [choices[at]], "", frozenset(plain)).right
            for other in found
        )
    ]


def _find_part_of_choice(text: str, choices: Sequence[str]) -> list[int]:
    """The one choice of which the answer is a part, such as a surname."""
    found = _list_wholes(text, choices)
    return found if len(found) == 1 else []


def _list_wholes(text: str, choices: Sequence[str]) -> list[int]:
    """All choices of which the answer is a part."""
    said = {token.key for token in tokenise(text, frozenset())} - _SMALL
    return [
        at
        for at, choice in enumerate(choices)
        if said and said <= {token.key for token in tokenise(choice, frozenset())}
    ]


def _exclude(
    exact, said, start, end, question, asked, gold, rules, applied
) -> tuple[str, str] | None:
    """The rule by which an occurrence does not answer, and the doubt; None if it does."""
    if "bounds" in rules and mentions.is_bound(said, start):
        return "bounds", "a gold answer only bounds the answer"
    if "negation" in rules and mentions.is_negated(said, start, end):
        return "negation", "a gold answer is denied"
    if "other_persons" in rules and mentions.asks_for_person(question):
        names = [wanted for alias in gold for wanted in list_variants(alias, applied)]
        if (end - start == 1 and mentions.is_other_person(said, start, names)) or any(
            mentions.is_other_dotted_person(exact, alias, gold) for alias in gold
        ):
            return "other_persons", "another person of that name"
    person = mentions.asks_for_person(question)
    if "longer_names" in rules and mentions.is_part_of_a_name(said, start, end, person):
        return "longer_names", "a gold answer is part of a longer name"

    def is_gold(tokens, at):
        return any(
            matches_at(tokens, at, wanted, applied, asked)
            for alias in gold
            for wanted in list_variants(alias, applied)
            if at + len(wanted) <= len(tokens)
        )

    if "alternatives" in rules and mentions.is_one_of_several(said, start, end, is_gold):
        return "alternatives", "names several answers"
    if "asides" in rules and mentions.is_aside(said, start, end, exact):
        return "asides", "a gold answer is mentioned in passing"
    if "echo" in rules and _repeats_quantity(said, start, end, asked):
        return "echo", "only repeats words of the question"
    if "echo" in rules and mentions.is_echo(said, start, end, asked):
        return "echo", "only repeats words of the question"
    return None


def _repeats_quantity(said, start, end, asked) -> bool:
    """Whether a quantity is that of the question, with another after it: "2.5 kg is 25 g"."""
    key = said[start].key
    return (
        end - start == 1
        and isinstance(key, Quantity)
        and bool(key.unit)
        and any(token.key == key for token in asked)
        and any(isinstance(token.key, Quantity) for token in said[end:])
    )


def _doubt_right(said, wanted, asked, rule: str) -> str:
    if mentions.occurs_in_question([token.key for token in wanted], asked):
        return "a gold answer occurs in the question"
    if len(said) - len(wanted) > _LONG:
        return "a gold answer among many other words"
    if rule == "spelling":
        return "spelled almost like a gold answer"
    return "" if rule == "contains" else "equal by a rule"


def _doubt_wrong(exact: str, gold: Sequence[str]) -> str:
    """Why a wrong answer may be right after all."""
    said = " ".join(str(token.text).casefold() for token in tokenise(exact, frozenset()))
    for alias in gold:
        wanted = " ".join(str(token.text).casefold() for token in tokenise(alias, frozenset()))
        if not said or not wanted:
            continue
        if f" {said} " in f" {wanted} ":
            return "part of a gold answer"
        if SequenceMatcher(None, said, wanted, autojunk=False).ratio() >= _ALIKE:
            return "spelled almost like a gold answer"
    return ""
