"""Options of the attention figures."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from llm_figures.core.options import (
    Drawing,
    Flag,
    Integer,
    Items,
    Number,
    Options,
    Says,
    by_kind,
    refusal,
)
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
# States are scaled in float32: its largest number, and the least that it does not round to 0.
LARGEST_FACTOR = 3.4028234e38
LEAST_FACTOR = 1.4e-45


def _check_factor(factor: float) -> float:
    if abs(factor) > LARGEST_FACTOR:
        raise refusal(f" is beyond float32, which ends at {LARGEST_FACTOR:.2g}")
    if 0 < abs(factor) < LEAST_FACTOR:
        raise refusal(f" is 0 in float32, whose least number is {LEAST_FACTOR:g}; write 0")
    return factor


Factor = Annotated[Number, AfterValidator(_check_factor)]


class AttentionInterventions(Options):
    """The interventions of an attention figure, and the layer that it displays."""

    operation: Literal["mean", "scale"] = "mean"
    """The intervention on Query, Key or Value: mean, scale

    The intervention: mean replaces Query, Key or Value by its mean, scale multiplies it by ε."""

    over: Literal["features", "tokens"] = "features"
    """features, tokens

    The axis of the mean; features is the head dimension. Not used by scale."""

    epsilon: Annotated[tuple[Factor, ...], Items(1, 8, distinct=True)] = (0.5, 1e-3, 1e-10)
    """Factors of scale, one column of panels each

    Factors ε of scale, one column of panels each. Not used by mean."""

    components: Annotated[tuple[Component, ...], Items(1, distinct=True)] = (
        "query",
        "key",
        "value",
    )
    """The components that are intervened on, one at a time."""

    input: Annotated[Integer, Field(ge=1)] = 1
    """The text of a scale figure, counted from 1

    The text of a scale figure: its number in inputs, counted from 1. Not used by mean."""

    scope: Literal["layer", "model"] = "layer"
    """layer: only the displayed layer; model: every layer

    layer intervenes in the displayed layer only, model in every layer of one forward pass."""

    stage: Literal["after_rotary", "before_rotary"] = "after_rotary"
    """Where Query or Key is intervened on: after_rotary, before_rotary

    Whether the intervention on Query or Key is made before or after rotary position embedding.
    Value is not rotated, and scale gives the same result at either stage."""

    layer: Layer = "auto"
    """auto: the layer with the strongest sink; or a layer from 0

    The displayed layer, counted from 0. auto takes the layer of the strongest attention sink."""

    def unused(self) -> tuple[str, ...]:
        """Options that the operation does not read."""
        return ("epsilon", "input") if self.operation == "mean" else ("over",)


class AttentionScoring(AttentionInterventions):
    """What the cells of an attention figure depend on."""

    head: Head = "mean"
    """mean, auto (the strongest sink), or a head from 0

    The displayed head, counted from 0. mean averages the maps of all heads; auto takes the head of
    the strongest attention sink."""

    bins: Annotated[Integer, Field(ge=2, le=1024)] = 128
    """Longer texts are shown in this many bins per axis

    Texts of more tokens are shown in this many bins per axis. The first token has its own bin; the
    others share the remaining bins evenly."""

    clean: Flag = False
    """A column of panels of the clean model, left of the others

    Whether a first column of panels shows the clean model, beside the panels of the
    interventions."""


class AttentionDrawing(Drawing):
    """What only the drawing of an attention figure reads."""

    tick_labels: Literal["none", "tokens", "positions"] = "none"
    """none, tokens (if they are readable), positions

    Tick labels of the maps. tokens falls back to positions, counted from 0, if the tokens would not
    be readable."""

    titles: Flag = True
    """Titles of the figure and its panels; false heads columns and rows shortly

    Whether the figure and its panels have titles. false heads the columns and rows of panels
    shortly, as on a page (style.width), where figures have no titles either."""

    masked: Literal["zero", "grey"] = "zero"
    """Cells that no query may attend to: zero (the colour of 0), grey

    How cells are drawn whose keys are hidden from their queries, later keys for example: zero gives
    them the colour of a weight of 0, grey tells them from small weights."""

    palette: Palette = "coolwarm"
    """Colour palette of the maps."""

    limits: Limits = (0.0, 1.0)
    """Lower and upper end of the colour scale."""


def _source(figure: str) -> FigureSource:
    scores = f"attention/{figure}.parquet"
    return FigureSource(scores, "llm_figures.attention.figure", compared=True)


class AttentionFigure(AttentionDrawing, AttentionScoring, Figure):
    """Attention maps under an intervention on Query, Key or Value."""

    clean: Flag = True


class PublishedAttention(AttentionFigure):
    """An attention figure with the published panels alone."""

    clean: Flag = False


class MeanQkv(PublishedAttention):
    """Attention maps after Query, Key or Value is replaced by its mean over features."""

    source: ClassVar[FigureSource] = _source("mean_qkv")


class MeanQkvTokens(PublishedAttention):
    """Attention maps after Query, Key or Value is replaced by its mean over tokens."""

    source: ClassVar[FigureSource] = _source("mean_qkv_tokens")

    over: Literal["features", "tokens"] = "tokens"


class ScaleQkv(PublishedAttention):
    """Attention maps after Query, Key or Value is scaled by ε."""

    source: ClassVar[FigureSource] = _source("scale_qkv")

    operation: Literal["mean", "scale"] = "scale"


class SinkScoring(Options):
    """What the table of `sink_map` depends on."""

    tokens: Annotated[Integer, Field(ge=2, le=1024)] = 64
    """T: only the first tokens of each text count

    T: only so many first tokens of each text count. A shorter text counts whole, and the caption
    says so."""


class SinkDrawing(Drawing):
    """What only the drawing of `sink_map` reads."""

    threshold: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """A head with more than this weight on the first token is a sink

    A head is a sink in a text if the first token has more than this share of the weight of the
    queries, α₁."""

    palette: Palette = "Blues"
    """Colour palette of the map."""

    limits: Limits = (0.0, 1.0)
    """Lower and upper end of the map's colour scale."""

    norms: Literal["linear", "log"] = "linear"
    """Axes of the panels of norms: linear, log

    Axes of the panels of norms. log shows models whose norms differ much between layers."""


class SinkMap(SinkDrawing, SinkScoring, Figure):
    """How much each head attends to the first token, and its norms beside the others'."""

    source: ClassVar[FigureSource] = FigureSource(
        "attention/sink_map.parquet",
        "llm_figures.attention.sink_figure",
        by_default=False,
        title="Attention sinks",
    )


# The figures of this room: the config's section `figures` has one of these options for each.
FIGURES = {
    "mean_qkv": MeanQkv,
    "mean_qkv_tokens": MeanQkvTokens,
    "scale_qkv": ScaleQkv,
    "sink_map": SinkMap,
}
