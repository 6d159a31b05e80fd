"""The residual stream at the named tokens of every answer, for the embeddings and every layer."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.hidden_states_file import layer_column
from llm_figures.models import decoder, decoder_layers
from llm_figures.prefix import PrefixCache, shared_prefix


@torch.inference_mode()
def residual_stream(
    model: PreTrainedModel,
    question_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    positions: Sequence[Mapping[str, int]],
    *,
    batch_size: int,
) -> Iterator[dict[str, Sequence | np.ndarray]]:
    """Yield the columns of `hidden_states_file.hidden_states_schema` batch by batch.

    prompts, answers: token ids of each question's prompt and generated answer.
    positions: {named token: position in prompt + answer} of each question.

    The prompts' shared beginning is computed once. Batches are padded on the right, where causal
    attention keeps the padding out of every position that is read.
    """
    if not prompts:
        return
    sequences = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    prefix = shared_prefix(prompts)
    cache = PrefixCache(model, prefix)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    layers = decoder_layers(model)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = len(sequences[batch[-1]])
        ids = torch.tensor(
            [
                sequences[index][len(prefix) :] + [0] * (longest - len(sequences[index]))
                for index in batch
            ],
            device=model.device,
        )
        rows, names, places = [], [], []
        for row, index in enumerate(batch):
            for name, position in positions[index].items():
                rows.append(row)
                names.append(name)
                places.append(position - len(prefix))
        found: dict[int, np.ndarray] = {}

        def keep(layer, states, at=(rows, places), found=found):
            # states [batch, tokens, hidden] -> [named tokens, hidden]
            found[layer] = states[at[0], at[1]].float().cpu().numpy()

        handles = [
            layers[0].register_forward_pre_hook(
                lambda module, args, kwargs, keep=keep: keep(0, _states(args, kwargs)),
                with_kwargs=True,
            ),
            *(
                block.register_forward_hook(
                    lambda module, args, output, layer=layer, keep=keep: keep(
                        layer, output[0] if isinstance(output, tuple) else output
                    )
                )
                for layer, block in enumerate(layers, start=1)
            ),
        ]
        try:
            decoder(model)(
                input_ids=ids, past_key_values=cache.for_batch(len(batch)), use_cache=True
            )
        finally:
            for handle in handles:
                handle.remove()
        yield {
            "question_id": [question_ids[batch[row]] for row in rows],
            "token": names,
            "position": [place + len(prefix) for place in places],
            **{layer_column(layer): states for layer, states in found.items()},
        }


def _states(args, kwargs) -> torch.Tensor:
    """The residual stream among a block's arguments."""
    return args[0] if args else kwargs["hidden_states"]
