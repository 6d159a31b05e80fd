"""Queries and keys of the model with random weights, which claims about attention are held against.

The loaded model itself gets random weights, so it must not be used afterwards. That needs no second
model in memory, and every architecture is initialised and run by its own code.
"""

import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.attention.capture import build_state_rows, capture_attention
from llm_figures.attention.proof import Proof
from llm_figures.attention.qk_store import build_states_schema
from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.models.decoders import decoder, decoder_layers

# Layers of random models in all: each is one reference.
REFERENCES = 24
# On a CPU, at most so many weights are drawn, or so large a share of the model's.
MOST_WEIGHTS = 100_000_000
MOST_OF_MODEL = 0.2
# Longer texts have none: their states would double the file, and their maps the time of claims.
LONGEST = 512
# Marks weights that were loaded, which transformers does not initialise.
LOADED = "_is_hf_initialized"


def extract_random_weights(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    proof: Proof,
    seed: int = 0,
) -> Iterator[tuple[pa.Schema, dict]]:
    """Yield `build_state_rows` of passes over the texts with random weights, one model at a time.

    The weights are those with which the model's own code begins a training. Of a model with many
    layers the first `REFERENCES` with attention are captured; of one with fewer, several random
    models. Where none can be made, the only batch has no rows, and the log says why.

    texts: their token ids. proof: of the model with its own weights.
    """
    longest = max(map(len, texts))
    try:
        layers = _choose_layers(model, proof.attention_layers, longest)
        for draw in range(math.ceil(REFERENCES / len(layers))):
            randomize_weights(model, 1 + layers[-1], texts, seed + draw)
            for index, ids in enumerate(texts, start=1):
                captured = capture_attention(model, ids, layers, rotation=True)
                for layer in sorted(captured):
                    own = {layer: captured.pop(layer)}
                    yield build_state_rows(tokenizer, index, ids, own, longest, sizes=proof.sizes)
    except (UserError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        log.info("claims are not held against a model with random weights: %s", reason)
        heads, key_value_heads, head_dim = proof.sizes
        size = (longest, head_dim)
        schema = build_states_schema((heads, *size), (key_value_heads, *size))
        yield schema, {name: [] for name in schema.names}


def randomize_weights(
    model: PreTrainedModel, blocks: int, texts: Sequence[Sequence[int]], seed: int
) -> None:
    """Give a model's first blocks, and the embeddings of the texts' tokens, random weights.

    What later blocks hold is left: a pass that ends before them does not read it.
    """
    whole, embedding = decoder(model), model.get_input_embeddings()
    left = {id(module) for block in decoder_layers(model)[blocks:] for module in block.modules()}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in whole.modules():
            if module is embedding or id(module) in left:
                continue
            for weights in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if hasattr(weights, LOADED):
                    delattr(weights, LOADED)
            getattr(whole, "_init_weights", model._init_weights)(module)
        ids = sorted({token for ids in texts for token in ids})
        rows = torch.empty((len(ids), embedding.weight.shape[1]))
        deviation = getattr(model.config.get_text_config(), "initializer_range", None) or 0.02
        embedding.weight[ids] = rows.normal_(std=deviation).to(embedding.weight)


def _choose_layers(model: PreTrainedModel, layers: Sequence[int], longest: int) -> tuple[int, ...]:
    """The layers to capture: the first of those with attention.

    Raises:
        UserError: texts are too long, or weights are too many or are stored in a few bits.
    """
    if longest > LONGEST:
        raise UserError(f"a text has {longest:,} tokens, more than {LONGEST}")
    chosen = tuple(layers[:REFERENCES])
    weights = list(decoder(model).parameters())
    if not all(part.dtype in (torch.float32, torch.float16, torch.bfloat16) for part in weights):
        raise UserError("its weights are quantised")
    if any(part.device.type == "cpu" for part in weights):
        most = max(MOST_WEIGHTS, MOST_OF_MODEL * sum(part.numel() for part in weights))
        blocks = decoder_layers(model)
        sizes = [sum(part.numel() for part in block.parameters()) for block in blocks]
        chosen = tuple(layer for layer in chosen if sum(sizes[: layer + 1]) <= most)
    if not chosen:
        raise UserError("one layer has too many weights to draw on this CPU")
    return chosen
