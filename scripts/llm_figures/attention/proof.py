"""Prove on a synthetic text that a model's maps are computed as the model computes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from llm_figures.attention.capture import capture_attention
from llm_figures.attention.captured import Captured
from llm_figures.core.errors import UserError
from llm_figures.models.decoders import (
    check_text_alone,
    decoder,
    decoder_layers,
    find_attentions,
)
from llm_figures.models.loading import context_length

# Tokens of the text. A window, chunk or block beyond the longest text is not reached here; passes
# over the texts of the figures compare weights, too.
SHORTEST = 64
LONGEST = 512
# Parts of the names of options in a config that bound which keys a token attends to.
SPANS = ("window", "chunk", "block_size", "block_topk", "topk", "rel_extent")


@dataclass(frozen=True)
class Proof:
    """What `prove_attention` found.

    tokens: of the text. layers: of the model. attention_layers: those whose attention is captured.
    deviation: the largest difference of a weight from the model's own, over all layers.
    output_deviation: likewise of the attention's output, relative to the largest value.
    bound: the largest deviation that was accepted in a layer.
    sizes: the largest (heads, key-value heads, head_dim) of all layers.
    """

    tokens: int
    layers: int
    attention_layers: tuple[int, ...]
    deviation: float
    output_deviation: float
    bound: float
    sizes: tuple[int, int, int]

    def to_facts(self) -> dict:
        """What the metadata of a file keeps of it."""
        return {
            "tokens": self.tokens,
            "layers": self.layers,
            "attention_layers": list(self.attention_layers),
            "largest_deviation": float(f"{self.deviation:.2g}"),
            "bound": float(f"{self.bound:.2g}"),
            "largest_output_deviation": float(f"{self.output_deviation:.2g}"),
        }


def prove_attention(model: PreTrainedModel) -> Proof:
    """Compare the maps of every attention layer with the model's own eager weights.

    The text has tokens drawn at random, and is longer than the model's windows and blocks where
    these are short (see `choose_length`).

    Raises:
        UserError: names the first layer whose weights differ, the difference and its bound; see
            `hook_attention`.
    """
    attentions = find_attentions(model)
    if not attentions:
        raise UserError(
            f"models of type {model.config.model_type} do not pass attention through "
            "transformers' attention interface, so it cannot be captured; choose another model"
        )
    check_text_alone(model)
    rows = model.get_input_embeddings().weight.shape[0]
    length = choose_length(model.config.to_dict(), context_length(model))
    ids = np.random.default_rng(0).integers(0, rows, length).tolist()
    found: dict[int, tuple] = {}

    def note(layer: int, captured: Captured) -> None:
        sizes = (captured.query.shape[1], captured.key.shape[1], captured.query.shape[3])
        found[layer] = (captured.deviation, captured.output_deviation, sizes, captured.bound)

    text_part = decoder(model)
    own = text_part.config._attn_implementation
    text_part.set_attn_implementation("eager")
    try:
        capture_attention(model, ids, attentions, on_layer=note, prove=True)
    finally:
        text_part.set_attn_implementation(own)
    deviations, outputs, sizes, bounds = zip(*found.values(), strict=True)
    return Proof(
        tokens=length,
        layers=len(decoder_layers(model)),
        attention_layers=tuple(sorted(attentions)),
        deviation=max((one for one in deviations if one is not None), default=0.0),
        output_deviation=max((one for one in outputs if one is not None), default=0.0),
        bound=max(bounds),
        sizes=tuple(map(max, zip(*sizes, strict=True))),
    )


def choose_length(config: Mapping, context: int | None) -> int:
    """The number of tokens of the text: half as long again as windows and blocks, within bounds."""
    config = config.get("text_config") or config
    spans = [
        value
        for name, value in config.items()
        if any(part in name for part in SPANS) and isinstance(value, int) and value > 0
    ]
    reached = [span * 3 // 2 + 16 for span in spans if span * 3 // 2 + 16 <= LONGEST]
    length = max([SHORTEST, *reached])
    return length if context is None else min(length, context)
