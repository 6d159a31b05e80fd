"""Figures made by hand: as the published ones were described, and contrary to it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from llm_figures.attention.maps import LayerStates, uniform_causal
from llm_figures.probe.protocol import TOKENS as PROBED

COMPONENTS = ("query", "key", "value")
EPSILONS = (0.5, 1e-3, 1e-10)
TOKENS = PROBED["strict"]
PROJECTIONS = ["attn. q", "attn. k", "attn. v", "attn. o", "mlp. up", "mlp. down", "mlp. gate"]

# Attention maps: functions of the number of tokens.

Shape = Callable[[int], np.ndarray]


def sink(tokens: int, strength: float = 0.95) -> np.ndarray:
    """Every later row looks at the first token, and at one token elsewhere."""
    weights = np.zeros((tokens, tokens))
    weights[:, 0] = strength
    weights[0, 0] = 1
    for row in range(1, tokens):
        weights[row, 1 + (row * 13 // 5) % row] = 1 - strength
    return weights


def itself(tokens: int) -> np.ndarray:
    """Every token looks at itself alone."""
    return np.eye(tokens)


def one_before(tokens: int) -> np.ndarray:
    """Every token looks at the one before it."""
    weights = np.eye(tokens, k=-1)
    weights[0, 0] = 1
    return weights


def looks_ahead(tokens: int) -> np.ndarray:
    """Every token looks at all, later ones included."""
    return np.full((tokens, tokens), 1 / tokens)


def warm_everywhere(tokens: int) -> np.ndarray:
    """Four tenths on the first token, as much on the token itself, the rest evenly."""
    weights = 0.4 * itself(tokens) + 0.2 * uniform_causal(tokens)
    weights[:, 0] += 0.4
    return weights


def fading(tokens: int, blur: float = 0.0) -> np.ndarray:
    """A warm corner: rows 2 to 8 look at the first token, later ones at the first few.

    blur: how much of the uniform causal map is mixed in.
    """
    weights = np.zeros((tokens, tokens))
    weights[0, 0] = 1
    for row in range(1, tokens):
        if row < 8:
            weights[row, row] = 0.041 - 0.001 * row
            weights[row, 0] = 1 - weights[row, row] - 0.002 * row
            weights[row, 1] += 0.002 * row
        else:
            place = np.arange(1, row + 1)
            weights[row, 0] = 0.199 - 0.002 * (row - 8)
            share = np.exp(-((place / 6) ** 2))
            weights[row, 1 : row + 1] = (1 - weights[row, 0]) * share / share.sum()
    return (1 - blur) * weights + blur * uniform_causal(tokens)


def blurred(tokens: int) -> np.ndarray:
    return fading(tokens, blur=0.03)


def weakening(shape: Shape) -> list[Shape]:
    """The shape for three inputs, ever weaker off the first column: no softmax's rows."""

    def weakened(part: float) -> Shape:
        return lambda tokens: shape(tokens) * np.where(np.arange(tokens) > 0, part, 1)

    return [weakened(part) for part in (1, 0.92, 0.83)]


def strips(tokens: int, first: float = 0.5) -> np.ndarray:
    """The first column and the diagonal stand out."""
    weights = first * sink(tokens, 1.0) + 0.3 * itself(tokens)
    return weights + (0.7 - first) * uniform_causal(tokens)


def nearly_uniform(tokens: int) -> np.ndarray:
    """The uniform causal map but for one warm cell outside the corner."""
    weights = uniform_causal(tokens)
    weights[8, :8] = [0.2, *[(0.8 - weights[8, 8]) / 7] * 7]
    return weights


def mean_figure(
    query: Shape | Sequence[Shape],
    key: Shape | Sequence[Shape] | None = None,
    value: Shape | Sequence[Shape] | None = None,
    tokens: Sequence[int] = (15, 15, 15),
) -> pd.DataFrame:
    """Tidy cells of a mean figure; one shape for all inputs, or one for each."""
    shapes = dict(zip(COMPONENTS, (query, key or query, value or query), strict=True))
    return cells(
        {
            (index, component, "mean", None): (shape if callable(shape) else shape[index - 1])(
                length
            )
            for index, length in enumerate(tokens, start=1)
            for component, shape in shapes.items()
        }
    )


def scale_figure(
    query: Sequence[Shape],
    key: Sequence[Shape] | None = None,
    value: Sequence[Shape] | None = None,
    tokens: int = 15,
) -> pd.DataFrame:
    """Tidy cells of a scale figure; one shape for each of `EPSILONS`."""
    rows = dict(zip(COMPONENTS, (query, key or query, value or query), strict=True))
    return cells(
        {
            (1, component, "scale", epsilon): shape(tokens)
            for component, shapes in rows.items()
            for epsilon, shape in zip(EPSILONS, shapes, strict=True)
        }
    )


def cells(maps: Mapping[tuple, np.ndarray]) -> pd.DataFrame:
    """Tidy cells of maps by input, component, operation and epsilon."""
    frames = []
    for (index, component, operation, epsilon), weights in maps.items():
        query, key = np.indices(weights.shape)
        frame = pd.DataFrame(
            {"query_position": query.ravel(), "key_position": key.ravel(),
             "weight": weights.ravel()}
        )  # fmt: skip
        frames.append(
            frame.assign(
                input=index, component=component, operation=operation, epsilon=epsilon,
                layer=0, head="mean",
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True).astype({"epsilon": "float64"})


def states(index: int, maps: Sequence[np.ndarray]) -> LayerStates:
    """States of one key-value head whose attention weights are `maps`, one per query head."""
    tokens = maps[0].shape[0]
    scores = np.log(np.maximum(np.stack(maps), 1e-30))
    return LayerStates(index, 0, scores, np.eye(tokens)[None], scaling=1.0)


MEAN_AS_DESCRIBED = mean_figure(weakening(fading), weakening(blurred), sink, tokens=(15, 16, 17))
MEAN_CONTRARY = {
    "uniform": mean_figure(uniform_causal),
    "sink": mean_figure(sink),
    "itself": mean_figure(itself),
    "one before": mean_figure(one_before),
    "looks ahead": mean_figure(looks_ahead),
    "warm everywhere": mean_figure(warm_everywhere),
    "every input another": mean_figure([sink, itself, one_before]),
    "key unlike query": mean_figure(sink, itself),
    "four tokens": mean_figure(uniform_causal, tokens=(4, 4, 4)),
    "wide": mean_figure(lambda tokens: np.full((tokens, 2 * tokens), 1 / tokens)),
}
SCALE_AS_DESCRIBED = scale_figure(
    [strips, nearly_uniform, uniform_causal],
    [lambda tokens: strips(tokens, 0.55), nearly_uniform, uniform_causal],
    [sink] * 3,
)
SCALE_CONTRARY = {
    "uniform": scale_figure([uniform_causal] * 3),
    "itself": scale_figure([itself] * 3),
    "the other way round": scale_figure([uniform_causal, nearly_uniform, strips], value=[sink] * 3),
    "key unlike query": scale_figure([sink] * 3, [itself] * 3),
    "every epsilon another": scale_figure([sink, itself, one_before]),
    "wide": scale_figure([lambda tokens: np.full((tokens, 2 * tokens), 1 / tokens)] * 3),
}

# Tables: layer × column.


def steps(layers: int, *until: tuple[int, float]) -> np.ndarray:
    """[layers]: each value holds up to and with its layer."""
    values, start = np.empty(layers), 0
    for last, value in until:
        values[start : last + 1] = value
        start = last + 1
    return values


def probe_figure(
    columns: Mapping[str, np.ndarray | float], shuffled: float = 0.5, layers: int = 32
) -> pd.DataFrame:
    """Tidy AUCs with intervals of ± 0.01, and the control on shuffled labels.

    The layer that is chosen on the training answers is that of the highest score.
    """
    frames = [
        pd.DataFrame({"layer": [-1], "mean": [np.nanmax(values)]}).assign(
            token=token, control="none", metric="nested_auc"
        )
        for token, values in columns.items()
    ]
    for control in ("none", "shuffled_labels"):
        for token, values in columns.items():
            mean = values if control == "none" else shuffled
            frame = pd.DataFrame({"layer": np.arange(layers), "mean": mean})
            frames.append(frame.assign(token=token, control=control, metric="auc"))
    scores = pd.concat(frames, ignore_index=True)
    return scores.assign(ci_low=scores["mean"] - 0.01, ci_high=scores["mean"] + 0.01)


ANSWER = steps(32, (10, 0.88), (11, 0.84), (28, 0.8), (31, 0.78))
EXACT = steps(32, (8, 0.88), (10, 0.97), (19, 0.82), (31, 0.79))
END = steps(32, (3, 0.6), (9, 0.7), (20, 0.84), (28, 0.7), (31, 0.6))
PROBE_COLUMNS = {
    "last_q": steps(32, (4, 0.92), (5, 0.8), (31, 0.68)),
    "first_answer": ANSWER,
    "second_answer": ANSWER,
    **dict.fromkeys(TOKENS[3:6], EXACT),
    **dict.fromkeys(TOKENS[6:], END),
}
PROBE_AS_DESCRIBED = probe_figure(PROBE_COLUMNS)
RISE = np.linspace(0.5, 1, 32)
PROBE_CONTRARY = {
    "flat": probe_figure(dict.fromkeys(TOKENS, 0.6), shuffled=0.6),
    "rising": probe_figure(dict.fromkeys(TOKENS, RISE)),
    "falling": probe_figure(dict.fromkeys(TOKENS, RISE[::-1])),
    "the end best": probe_figure({token: 0.5 + 0.03 * n for n, token in enumerate(TOKENS)}),
    "last_q best": probe_figure({token: 0.99 - 0.03 * n for n, token in enumerate(TOKENS)}),
    "last_q keeps": probe_figure({**PROBE_COLUMNS, "last_q": 0.95}),
    "second_answer apart": probe_figure({**PROBE_COLUMNS, "second_answer": 0.55}),
    "all high": probe_figure(dict.fromkeys(TOKENS, 0.99)),
}


def module_figure(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Tidy scores from 0.075 to 0.105 of columns from 0 to 1."""
    frames = [
        pd.DataFrame({"layer": np.arange(len(values)), "value": 0.075 + 0.03 * values}).assign(
            projection=module, metric="operation_strength"
        )
        for module, values in columns.items()
    ]
    return pd.concat(frames, ignore_index=True)


MODULE_COLUMNS = {
    "attn. q": steps(28, (19, 0.1), (27, 0.2)),
    "attn. k": steps(28, (4, 0.0), (11, 0.2), (16, 1.0), (27, 0.4)),
    "attn. v": steps(28, (4, 0.95), (12, 0.2), (27, 0.9)),
    "attn. o": steps(28, (9, 0.15), (10, 0.9), (27, 0.15)),
    "mlp. up": steps(28, (8, 0.2), (15, 0.8), (27, 0.2)),
    "mlp. down": steps(28, (10, 0.2), (18, 0.8), (27, 0.2)),
    "mlp. gate": steps(28, (5, 0.2), (19, 0.8), (27, 0.2)),
}
MODULE_AS_DESCRIBED = module_figure(MODULE_COLUMNS)
MODULE_CONTRARY = {
    "negative": module_figure({name: 1 - values for name, values in MODULE_COLUMNS.items()}),
    "rising": module_figure(dict.fromkeys(PROJECTIONS, np.linspace(0, 1, 28))),
    "falling": module_figure(dict.fromkeys(PROJECTIONS, np.linspace(1, 0, 28))),
}

# Choices: every combination by default.


def choices(layers: int) -> pd.DataFrame:
    """Rows as of `evaluate_choices`, with verdicts by chance."""
    random = np.random.default_rng(0)
    shown = [
        ("25%", layers // 4),
        ("50%", layers // 2),
        ("75%", 3 * layers // 4),
        ("auto", layers - 2),
    ]
    rows = [
        {"operation": operation, "over": over, "stage": stage, "scope": scope, "layer_choice": name,
         "layer": layer, "head_choice": head, "head": "mean" if head == "mean" else "2",
         "verdict": random.choice(["reproduced", "not reproduced"])}
        for operation, over in (("mean", "features"), ("mean", "tokens"), ("scale", None))
        for stage, scope, (name, layer), head in product(
            ("before_rotary", "after_rotary"), ("layer", "model"), shown, ("mean", "auto")
        )
        for _ in range(28 if operation == "mean" else 16)
    ]  # fmt: skip
    return pd.DataFrame(rows)
