"""Options of the module map."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llm_figures.core.options import (
    Drawing,
    Integer,
    Items,
    Number,
    Options,
    Says,
    Text,
    by_kind,
)
from llm_figures.models.options import ModelName
from llm_figures.modules.metrics import METRICS, shown_metrics
from llm_figures.plotting.style import Figure, FigureSource, Palette, TwoLimits
from llm_figures.probe.token_positions import SINGLE_TOKENS

ModuleMetric = Literal[tuple(METRICS)]
ProbeToken = Literal[SINGLE_TOKENS]
MetricLimits = Annotated[
    Literal["robust", "data"] | TwoLimits,
    by_kind,
    Says("robust, data or two numbers"),
]
MetricCentre = Annotated[Number | Literal["auto"] | None, by_kind, Says("a number, auto, null")]

TEXTS = (
    "Rivers shape the land they cross. In the mountains they cut deep valleys; in the plains they "
    "slow down, drop their sand and wander from side to side.",
    "The recipe is simple: melt the butter, stir in the flour, add the milk a little at a time and "
    "let it thicken over a low flame for five minutes.",
    "In 1969 two people walked on the Moon while a third kept the ship in orbit. They brought back "
    "twenty-two kilograms of rock, which laboratories still study.",
    '"You could have told me," she said, and closed the window. He looked at the floor for a while '
    "before he answered that he had not known it himself.",
    "A function that calls itself needs a case in which it stops; without one, every call waits "
    "for another until the memory of the machine is full.",
    "The museum opens at nine, except on Mondays. Tickets cost twelve euros, and children under "
    "six years of age pay nothing.",
)


class Update(Options):
    """Metrics that compare two checkpoints."""

    tolerance: Annotated[Number, Field(ge=0)] = 0
    """Of update_density: a weight that differs by more has changed

    update_density counts the weights that differ by more than this. 0 counts all that differ in
    the checkpoints' own precision."""

    top_k: Annotated[Integer, Field(ge=1)] = 16
    """Of subspace_rotation: how many singular vectors of either side

    How many of the first singular vectors, left and right, subspace_rotation follows; at most the
    smaller side of the matrix."""


class Quantization(Options):
    """The round trip of quantization_error. Step sizes are kept in float16."""

    bits: Annotated[Integer, Field(ge=2, le=8)] = 4
    """Bits of one weight."""

    block_size: Annotated[Integer, Field(ge=1)] = 32
    """Weights along the input dimension that share a step."""

    scheme: Literal["symmetric", "asymmetric"] = "symmetric"
    """symmetric (a step from the largest weight), asymmetric (least to greatest)

    symmetric has a step of max|w| / (2^(bits-1) - 1). asymmetric divides the range from the
    block's least to its greatest weight."""


class ModuleScoring(Options):
    """What the scores of the module map depend on."""

    metric: Annotated[
        ModuleMetric | Annotated[tuple[ModuleMetric, ...], Items(1, distinct=True)],
        by_kind,
        Says(f"{', '.join(METRICS)}, or a list of these"),
    ] = "operation_strength"
    """operation_strength, output_rms, input_alignment; ablation_effect, ablation_kl; probe_auc;
    relative_update, update_density, update_effective_rank, subspace_rotation; quantization_error,
    gguf_error; or a list, one figure each

    What the heatmap shows, or a list. The first is drawn as module_map, each other one as
    module_map_<metric>; modules/scores.parquet holds all. ablation_effect brings ablation_kl with
    it."""

    probe_token: ProbeToken = "exact_answer_last"
    """Where probe_auc takes the outputs

    The token at which the metric probe_auc takes a projection's outputs."""

    compare_with: ModelName | None = None
    """Another model's key, the earlier checkpoint of the metrics of updates

    The earlier checkpoint that relative_update, update_density, update_effective_rank and
    subspace_rotation compare the model with: a key of config/models.yaml or model_sources, of the
    model's own architecture."""

    update: Update = Update()
    """Metrics that compare two checkpoints."""

    quantization: Quantization = Quantization()
    """The round trip of quantization_error."""

    texts: Annotated[tuple[Text, ...], Items(1)] | None = TEXTS
    """Texts that strengths are averaged over; null takes inputs

    Texts over whose tokens the metrics are averaged. null takes inputs."""

    @property
    def metrics(self) -> list[str]:
        """The metrics that `metric` asks for, in its order, each once."""
        return shown_metrics(self.metric)

    def metrics_of(self, model: str) -> list[str]:
        """Those of one model: a model is not compared with itself."""
        if model != self.compare_with:
            return self.metrics
        return [name for name in self.metrics if METRICS[name].measure != "updates"]


class ModuleDrawing(Drawing):
    """What only the drawing of the module map reads."""

    palette: Palette = "blue-white-orange"
    """Colours of the cells."""

    limits: Annotated[
        Literal["robust", "data"] | TwoLimits | dict[ModuleMetric, MetricLimits],
        by_kind,
        Says("robust, data, two numbers, or a table of these by metric"),
    ] = "robust"
    """robust (2nd to 98th percentile), data (all of it), two numbers; or a table by metric

    Both ends of the colour scale. robust is the data's 2nd to 98th percentile (5th to 95th for
    the ablations), so that single cells do not flatten the rest. data is the whole range."""

    centre: Annotated[
        Number | Literal["auto"] | dict[ModuleMetric, MetricCentre] | None,
        by_kind,
        Says("a number, auto, null, or a table of these by metric"),
    ] = "auto"
    """auto (the metric's neutral value), null (middle of the limits), a number; or by metric

    The value that has the palette's middle colour. auto takes the metric's neutral value
    (input_alignment 1, probe_auc 0.5, ablation_effect and ablation_kl 0) if it lies in or near
    the limits, else the middle of the limits. null takes that middle."""


class ModuleMap(ModuleDrawing, ModuleScoring, Figure):
    """A metric of every projection of every layer."""

    source: ClassVar[FigureSource] = FigureSource(
        "modules/scores.parquet", "llm_figures.modules.figure", compared=True
    )

    def problems(self) -> Iterator[str]:
        """One line for each metric whose centre lies outside its limits."""
        for name in self.metrics:
            options = self.of_metric(name)
            centre, limits = options.centre, options.limits
            if isinstance(centre, str | None) or isinstance(limits, str):
                continue
            if not limits[0] <= centre <= limits[1]:
                yield (
                    f"figures.module_map.centre: {centre:g} of {name} lies outside its limits, "
                    f"{limits[0]:g} to {limits[1]:g}; choose a value between them, auto or null"
                )

    def of_metric(self, metric: str) -> "MetricMap":
        """The options for drawing one metric.

        limits and centre may be set by metric; one that is not named has the default.
        """
        limits, centre = self.limits, self.centre
        chosen = {name: getattr(self, name) for name in MetricMap.model_fields} | {
            "metric": metric,
            "limits": limits.get(metric, "robust") if isinstance(limits, dict) else limits,
            "centre": centre.get(metric, "auto") if isinstance(centre, dict) else centre,
        }
        return MetricMap.model_validate(chosen)


class MetricMap(Options):
    """Options for drawing one metric (see `ModuleMap`)."""

    metric: ModuleMetric
    probe_token: ProbeToken
    compare_with: ModelName | None
    update: Update
    quantization: Quantization
    palette: Palette
    limits: MetricLimits
    centre: MetricCentre


# The figures of this room: the config's section `figures` has one of these options for each.
FIGURES = {"module_map": ModuleMap}
