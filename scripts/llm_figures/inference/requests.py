"""Requests in plain text, each with a reply of one line: quotes and judgements."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.job import log, progress
from llm_figures.inference.generation import generate
from llm_figures.inference.prompts import tokenize_texts, too_long
from llm_figures.inference.token_spans import REPLACEMENT
from llm_figures.models.loading import context_length


def send_requests(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    keys: Sequence[int],
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[tuple[list[int], list[str]]]:
    """Yield the keys and the replies of each batch; a reply ends at a new line.

    keys: one number per text. A text that does not fit the model's context gets no reply; how many
    these are is logged.
    """
    context = context_length(model)
    fitting = [
        (key, ids)
        for key, ids in zip(keys, tokenize_texts(tokenizer, texts), strict=True)
        if not too_long(ids, max_new_tokens, context)
    ]
    if len(fitting) < len(texts):
        log.info("%d answers are too long to be asked about", len(texts) - len(fitting))
    batches = generate(
        model,
        tokenizer,
        [ids for _, ids in fitting],
        stop=["\n"],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        keys=[key for key, _ in fitting],
    )
    for batch in progress(batches, "answers", total=len(fitting), size=len):
        yield (
            [fitting[reply.index][0] for reply in batch],
            # A reply that was cut may end inside a character.
            [reply.text.strip().rstrip(REPLACEMENT) for reply in batch],
        )
