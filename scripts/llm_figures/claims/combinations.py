"""Combinations of what the published attention figures leave open, and the passes they need.

The published figures do not say over which axis the mean was taken, in how many layers the
intervention was made, whether before or after rotary embedding, nor which layer and heads are
shown.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import (
    States,
    check_displayed,
    find_shape,
    list_panels,
    resolve_auto,
)
from llm_figures.claims.options import ChoicesScoring

# {operation: the figure whose claims and further options it is evaluated with}
FIGURES = {"mean": "mean_qkv", "scale": "scale_qkv"}


class Combination(NamedTuple):
    """One value of every choice.

    layer, head: as in the config. options: with `layer` resolved to a number, `head` to a number or
    "mean"; `over` is None for a scale, which has no axis.
    """

    layer: str
    head: str
    options: AttentionScoring

    @property
    def figure(self) -> str:
        """The figure whose claims are evaluated."""
        return FIGURES[self.options.operation]


def combine_choices(
    choices: ChoicesScoring, figures: Mapping[str, AttentionScoring], clean: Sequence[States]
) -> Iterator[Combination]:
    """Every combination of the choices.

    figures: options of mean_qkv and scale_qkv, for what is no choice: components, epsilon, input.
    clean: the clean model's states, by which layer and head are resolved.
    """
    for operation, figure in FIGURES.items():
        axes = choices.over if operation == "mean" else (None,)
        open_ = (axes, choices.stage, choices.scope, choices.layer, choices.head)
        for over, stage, scope, layer, head in itertools.product(*open_):
            options = figures[figure].changed(
                operation=operation,
                over=over,
                stage=stage,
                scope=scope,
                layer=_resolve_share(layer, clean),
                head=head,
            )
            options = resolve_auto(options, clean)
            check_displayed("choices", options, clean)
            yield Combination(str(layer), str(head), options)


def _resolve_share(layer: int | str, clean: Sequence[States]) -> int | str:
    """The layer with attention that is nearest to a share of the depth; numbers and auto stay."""
    if isinstance(layer, int) or layer == "auto":
        return layer
    share = float(layer.removesuffix("%")) / 100
    depth = round(share * (find_shape(clean)["layers"] - 1))
    return min({states.layer for states in clean}, key=lambda known: (abs(known - depth), known))


def plan_passes(
    choices: ChoicesScoring, figures: Mapping[str, AttentionScoring], clean: Sequence[States]
) -> tuple[list[int], list[tuple[int, Intervention]]]:
    """What an intervention in every layer needs of the model: (layers to store, forward passes).

    A pass is (input, intervention). An intervention before rotary embedding has none where a
    layer's rotation is not known: those combinations are not applicable.
    """
    texts = len({states.input for states in clean})
    known = all(states.rotated for states in clean)
    options = [combination.options for combination in combine_choices(choices, figures, clean)]
    passes = {
        (text, intervention): None
        for variant in options
        if variant.scope == "model"
        for _, _, text, intervention in list_panels(variant, texts)
        if known or not intervention.unrotates
    }
    return sorted({variant.layer for variant in options}), list(passes)
