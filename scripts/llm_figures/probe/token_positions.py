"""Positions of the named tokens of an answer, at which it is probed."""

from llm_figures.questions.spans import overlapping

# The token that ended the answer, which is no part of it; the mean over the answer's own tokens.
STOP, MEAN = "stop", "answer_mean"
# Counted from the start of the answer, around the exact answer (Orgad et al. 2025, arXiv
# 2410.02707, section 3), then from the end of the answer.
NAMED_TOKENS = (
    "last_q",
    "first_answer",
    "second_answer",
    "exact_answer_before_first",
    "exact_answer_first",
    "exact_answer_last",
    "exact_answer_after_last",
    *(str(index) for index in range(-8, 0)),
    STOP,
    MEAN,
)
# Those of one position each, and those of them that are tokens of the answer.
SINGLE_TOKENS = tuple(name for name in NAMED_TOKENS if name != MEAN)
ANSWER_TOKENS = tuple(name for name in SINGLE_TOKENS if name not in ("last_q", STOP))


def locate_named_tokens(
    prompt_length: int,
    starts: list[int],
    ends: list[int],
    span: tuple[int, int],
    stops: bool = False,
) -> dict[str, int | range]:
    """Position in the sequence (prompt, then answer) of each named token that the answer has.

    starts, ends: characters of the answer's text that each token of it covers. span: characters of
    the exact answer. stops: whether the sequence goes on with the token that ended the answer.

    `last_q` is the last token of the prompt, `stop` that after the answer, which may also be
    `exact_answer_after_last`. All others are inside the answer: a name that would fall outside,
    such as -8 of a six-token answer, is left out, never moved into the question. `answer_mean` has
    the positions of all the answer's tokens.
    """
    inside = overlapping(starts, ends, span)
    count = len(starts)
    offsets = {
        "first_answer": 0,
        "second_answer": 1,
        "exact_answer_before_first": inside[0] - 1,
        "exact_answer_first": inside[0],
        "exact_answer_last": inside[-1],
        "exact_answer_after_last": inside[-1] + 1,
        **{str(-back): count - back for back in range(8, 0, -1)},
    }
    positions: dict[str, int | range] = {
        name: prompt_length + offset for name, offset in offsets.items() if 0 <= offset < count
    }
    if stops:
        ends_exactly = inside[-1] + 1 == count
        after = {"exact_answer_after_last": prompt_length + count} if ends_exactly else {}
        positions |= {**after, STOP: prompt_length + count}
    mean = range(prompt_length, prompt_length + count)
    return {"last_q": prompt_length - 1, **positions, MEAN: mean}
