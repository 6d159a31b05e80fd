"""Positions of the named tokens of an answer, at which it is probed."""

from llm_figures.questions.spans import overlapping

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
)


def locate_named_tokens(
    prompt_length: int, starts: list[int], ends: list[int], span: tuple[int, int]
) -> dict[str, int]:
    """Position in the sequence (prompt, then answer) of each named token that the answer has.

    starts, ends: characters of the answer's text that each generated token covers. span: characters
    of the exact answer.

    `last_q` is the last token of the prompt. All others are inside the answer: a name that would
    fall outside, such as -8 of a six-token answer, is left out, never moved into the question.
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
    positions = {
        name: prompt_length + offset for name, offset in offsets.items() if 0 <= offset < count
    }
    return {"last_q": prompt_length - 1, **positions}
