"""Attention maps that claims are held against: those of random scores, or of a random model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import list_panels
from llm_figures.claims.panels import Maps, compute_maps
from llm_figures.claims.references import ENOUGH, RANDOM, RANDOM_WEIGHTS, UNIFORM

DRAWS = 100
# Standard deviations of random scores: from nearly even rows to rows that look at one token.
SPREADS = (0.5, 1.0, 2.0, 4.0)
# Of longer texts there are fewer draws, and then fewer heads: weights in all, and in one draw.
MOST_WEIGHTS = 5_000_000
MOST_WEIGHTS_OF_DRAW = 20_000_000


def draw_reference_maps(
    options: AttentionScoring,
    displayed: Sequence[LayerStates],
    random_weights: Sequence[Sequence[LayerStates]] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[tuple[str, Maps]]:
    """Yield (kind, the figure's maps) of every reference of an attention figure.

    A reference has the run's texts, heads, mask and scaling, and goes through the figure's
    interventions: the uniform causal map, whose scores are all equal; maps of random queries and
    keys (see `draw_states`); and, with the intervention in the displayed layer, layers of the model
    with random weights. With one in every layer, the panels of a random reference are drawn apart.

    options: from `resolve_auto`. displayed: the clean states of the displayed layer, one per text.
    random_weights: for each of some layers of the model with random weights, likewise.
    """
    if options.operation == "scale":
        displayed = [states for states in displayed if states.input == options.input]
        random_weights = [
            [states for states in layer if states.input == options.input]
            for layer in random_weights
        ]
    heads = displayed[0].heads if options.head == "mean" else 1
    weights = sum(states.query.shape[1] ** 2 for states in displayed)
    heads = max(1, min(heads, MOST_WEIGHTS_OF_DRAW // weights))
    draws = min(draws, max(ENOUGH, MOST_WEIGHTS // (weights * heads)))
    shown = options.changed(head="mean")
    generator = np.random.default_rng(seed)

    def equal_scores(states: LayerStates) -> LayerStates:
        # one head: all would be the same, but for a bias of their own
        own = states if states.bias is not None else states.select_head(0)
        zeros = {"query": np.zeros_like(own.query), "key": np.zeros_like(own.key)}
        return replace(own, **zeros, sinks=None, stored_strength=None)

    yield UNIFORM, _compute(shown, displayed, equal_scores)
    for draw in range(draws):
        spread = SPREADS[draw % len(SPREADS)]

        def random_scores(states: LayerStates, spread=spread) -> LayerStates:
            return draw_states(states, heads, spread, generator)

        yield RANDOM, _compute(shown, displayed, random_scores)
    if options.scope == "layer":
        for layer in random_weights:
            own = [replace(states, layer=options.layer) for states in layer]
            yield RANDOM_WEIGHTS, compute_maps(options, own)


def draw_states(
    states: LayerStates, heads: int, spread: float, generator: np.random.Generator
) -> LayerStates:
    """Random queries and keys with the mask, scaling and rotation of `states`.

    Each is the sum of three Gaussian parts: one of every entry, one of every token that its
    features share, and one of every feature that the tokens share. So neither a mean over features
    nor one over tokens leaves nothing but noise. Each part is of such a size that the scores of a
    row differ by its own third of their variance.

    heads: how many there are; each has a key of its own if there are fewer than in `states`.
    spread: the standard deviation of a row's scores.
    """
    tokens, features = states.query.shape[1:]
    keys = len(states.key) if heads == states.heads else heads
    scale = np.sqrt(spread / (np.sqrt(3 * features) * states.scaling))

    def draw(count: int) -> np.ndarray:
        own = generator.standard_normal((count, tokens, features))
        of_token = generator.standard_normal((count, tokens, 1)) * features**-0.25
        of_feature = generator.standard_normal((count, 1, features))
        return (scale * (own + of_token + of_feature)).astype(states.query.dtype)

    return replace(
        states,
        query=draw(heads),
        key=draw(keys),
        sinks=None if states.sinks is None else states.sinks[:heads],
        bias=None if states.bias is None else states.bias[:heads],
        stored_strength=None,
    )


def _compute(
    options: AttentionScoring,
    displayed: Sequence[LayerStates],
    draw: Callable[[LayerStates], LayerStates],
) -> Maps:
    if options.scope == "layer":
        return compute_maps(options, [draw(states) for states in displayed])
    texts = {states.input: states for states in displayed}
    intervened = {
        (options.layer, text, intervention): draw(texts[text]).intervene(intervention)
        for _, _, text, intervention in list_panels(options, len(texts))
    }
    return compute_maps(options, displayed, intervened)
