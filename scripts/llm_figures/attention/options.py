"""Options of the attention figures."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llm_figures.core.options import Drawing, Integer, Items, Number, Options, Says, by_kind
from llm_figures.plotting.style import Figure, FigureSource, Limits, Palette

Component = Literal["query", "key", "value"]
Layer = Annotated[
    Annotated[Integer, Field(ge=0)] | Literal["auto"],
    by_kind,
    Says("auto or a layer from 0"),
]
Head = Annotated[
    Annotated[Integer, Field(ge=0)] | Literal["mean", "auto"],
    by_kind,
    Says("mean, auto or a head from 0"),
]


class AttentionScoring(Options):
    """What the cells of an attention figure depend on."""

    operation: Literal["mean", "scale"] = "mean"
    """What is done to Query, Key or Value: mean, scale

    mean replaces Query, Key or Value by its mean, scale multiplies it by ε."""

    over: Literal["features", "tokens"] = "features"
    """features, tokens

    The axis of the mean; features is the head dimension. Not used by scale."""

    epsilon: Annotated[tuple[Number, ...], Items(1, 8, distinct=True)] = (0.5, 1e-3, 1e-10)
    """Factors of scale, one column of panels each

    The factors of scale, one column of panels each. Not used by mean."""

    components: Annotated[tuple[Component, ...], Items(1, distinct=True)] = (
        "query",
        "key",
        "value",
    )
    """Which of them are changed, one at a time."""

    input: Annotated[Integer, Field(ge=1)] = 1
    """The text of a scale figure, counted from 1

    The text of a scale figure, counted from 1 in inputs. Not used by mean."""

    scope: Literal["layer", "model"] = "layer"
    """layer: only the displayed layer; model: every layer

    layer changes the displayed layer alone, model changes every layer in one forward pass."""

    stage: Literal["after_rotary", "before_rotary"] = "after_rotary"
    """Where Query or Key is changed: after_rotary, before_rotary

    Whether Query or Key is changed before or after the rotary position embedding. Value is not
    rotated, and scaling gives the same at either place."""

    layer: Layer = "auto"
    """auto: the layer with the strongest sink; or a layer from 0

    The displayed layer, from 0. auto takes the one with the strongest attention sink."""

    head: Head = "mean"
    """mean, auto (the strongest sink), or a head from 0

    The displayed head, from 0. mean averages the maps of all heads; auto takes the head with the
    strongest attention sink."""

    bins: Annotated[Integer, Field(ge=2, le=1024)] = 128
    """A longer text is shown in this many bins a side

    A text of more tokens is shown in this many bins a side. The first token has a bin of its own,
    the others share the rest evenly."""

    def unused(self) -> tuple[str, ...]:
        """Options that the operation does not read."""
        return ("epsilon", "input") if self.operation == "mean" else ("over",)


class AttentionDrawing(Drawing):
    """What only the drawing of an attention figure reads."""

    tick_labels: Literal["none", "tokens", "positions"] = "none"
    """none, tokens (where they are readable), positions

    Labels along the maps. tokens falls back to positions, counted from 0, where the tokens would
    not be readable."""

    palette: Palette = "coolwarm"
    """Colours of the maps."""

    limits: Limits = (0.0, 1.0)
    """Both ends of the colour scale."""


def _source(figure: str) -> FigureSource:
    scores = f"attention/{figure}.parquet"
    return FigureSource(scores, "llm_figures.attention.figure", compared=True)


class AttentionFigure(AttentionDrawing, AttentionScoring, Figure):
    """Attention maps under an intervention on Query, Key or Value."""


class MeanQkv(AttentionFigure):
    """Attention maps after Query, Key or Value is replaced by its mean over features."""

    source: ClassVar[FigureSource] = _source("mean_qkv")


class MeanQkvTokens(AttentionFigure):
    """Attention maps after Query, Key or Value is replaced by its mean over tokens."""

    source: ClassVar[FigureSource] = _source("mean_qkv_tokens")

    over: Literal["features", "tokens"] = "tokens"


class ScaleQkv(AttentionFigure):
    """Attention maps after Query, Key or Value is scaled by ε."""

    source: ClassVar[FigureSource] = _source("scale_qkv")

    operation: Literal["mean", "scale"] = "scale"


# The figures of this room: the config's section `figures` has one of these options for each.
FIGURES = {"mean_qkv": MeanQkv, "mean_qkv_tokens": MeanQkvTokens, "scale_qkv": ScaleQkv}
