"""The same works with a 7B-sized model in bfloat16 on a GPU, for machines that have one."""

from dataclasses import replace
from functools import partial

import attention
import limit
import questions
from questions import GENERATION, STATES
from works import ON_GPU, Work

# In bfloat16 a number is known to 1 in 256, and after 32 layers to a few in a hundred.
LARGEST_ROW_ERROR = 0.05  # of a row of attention weights, whose sum is 1
LARGEST_STATE_ERROR = 0.05  # of the layer's largest value
# What follows the first difference, of answers of random weights: their two likeliest tokens are
# often nearly as likely.
MOST_PARTED = 0.5


def large(work: Work, **changes) -> Work:
    """A work as it is there. What our times are to be is known of the default model alone."""
    known = {
        "name": f"{work.name}, 7B on a GPU",
        "methods": tuple(replace(method, target=None) for method in work.methods),
        "setting": ON_GPU,
        "memory_target": None,
        "largest_mb": None,
    }
    return replace(work, **(known | changes))


(PRODUCTS,) = limit.WORKS
_, MIDDLE, LONG = attention.WORKS
same_maps = partial(attention.agree_by_row, largest=LARGEST_ROW_ERROR)
WORKS = (
    large(
        PRODUCTS,
        methods=(limit.OF_TORCH,),
        options={"tokens": 4096, "features": 4096, "products": 400},
    ),
    large(MIDDLE, agree=same_maps, small={"tokens": 12}),
    large(LONG, agree=same_maps),
    # every token of every layer is kept by the loop: 270 kB a token
    large(
        STATES,
        options=STATES.options | {"questions": 128},
        agree=partial(questions.same_states, largest=LARGEST_STATE_ERROR),
    ),
    large(
        GENERATION, agree=partial(questions.same_answers, apart=questions.parted, most=MOST_PARTED)
    ),
)
