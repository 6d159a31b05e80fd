"""Alt text of a figure, from its caption."""

import re

# Screen readers read an alt text in one go; the caption beside it holds the rest.
LONGEST = 300


def split_sentences(caption: str) -> list[str]:
    """The sentences of a caption, each on one line.

    A point ends a sentence only before white space, so `0.907` and `mlp. up` stay whole where no
    capital follows.
    """
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9−])", " ".join(caption.split()))


def make_alt_text(caption: str) -> str:
    """The first sentences of a caption, on one line: at least one, up to `LONGEST` characters."""
    text, *sentences = split_sentences(caption)
    for sentence in sentences:
        if len(text) + 1 + len(sentence) > LONGEST:
            break
        text += f" {sentence}"
    return text
