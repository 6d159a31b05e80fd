"""What the module map can show: its metrics, what each is made from, and how it is coloured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One metric of modules/scores.parquet.

    measure: what it is made from: "activity" (a pass over the texts), "ablation" (passes with a
        projection's output replaced), "probe" (states at the answers), "updates" (two checkpoints'
        weights) or "quantization" (the weights alone).
    label: of the colour bar. title: of the report's section. says: for the caption; braces hold
        options of the figure.
    neutral: the value that means nothing, drawn white; None has the middle of the limits white.
    robust: percentiles between which limits: robust lie; closer where a few cells are far above all
        others.
    """

    measure: str
    label: str
    title: str
    says: str
    neutral: float | None = None
    robust: tuple[float, float] = (2, 98)


OVER_TOKENS = "averaged over the tokens of the texts"
METRICS = {
    "operation_strength": Metric(
        "activity",
        "Operation strength",
        "How Strongly Each Projection Acts on Its Inputs",
        f"Operation strength ‖Wx‖ / (‖W‖_F ‖x‖) of every projection of {{model}}, {OVER_TOKENS} "
        "(without bias). Dimensionless; 1/√d_in for an input in a random direction.",
    ),
    "output_rms": Metric(
        "activity",
        "RMS of the output",
        "How Large the Outputs of Each Projection Are",
        "Root of the mean of ‖Wx‖² / d_out of every projection of {model}, over the tokens of the "
        "texts (without bias): the size of one output.",
    ),
    "input_alignment": Metric(
        "activity",
        "Input alignment",
        "How Well Each Projection's Inputs Lie Along Its Weights",
        "Input alignment ‖Wx‖ √d_in / (‖W‖_F ‖x‖) of every projection of {model}, "
        f"{OVER_TOKENS} (without bias): the output's size over that (root mean square) for random "
        "directions of the input's norm, for which it is 1.",
        neutral=1.0,
    ),
    "ablation_effect": Metric(
        "ablation",
        "Rise in loss (nats per token)",
        "What the Predictions Lose Without Each Projection",
        "Rise in the mean next-token loss −log p of {model} on the texts when the output of one "
        "projection in one layer is replaced by its mean over all their tokens, in nats per "
        "token.",
        neutral=0.0,
        robust=(5, 95),
    ),
    "ablation_kl": Metric(
        "ablation",
        "KL divergence (nats per token)",
        "How Much Each Projection Moves the Predictions",
        "KL(clean ‖ altered) of the next-token distributions of {model} on the texts when the "
        "output of one projection in one layer is replaced by its mean over all their tokens, in "
        "nats per token.",
        neutral=0.0,
        robust=(5, 95),
    ),
    "probe_auc": Metric(
        "probe",
        "AUC",
        "Where a Linear Probe on a Projection's Output Detects a Wrong Answer",
        "AUC of linear probes that detect a wrong answer of {model} from the output of one "
        "projection at {probe_token}, mean over the folds; 0.5 is chance.",
        neutral=0.5,
    ),
    "relative_update": Metric(
        "updates",
        "Relative update",
        "How Far Each Projection Moved",
        "Relative update ‖ΔW‖_F / ‖W‖_F of every projection from {compare_with} (W) to {model} "
        "(W + ΔW).",
    ),
    "update_density": Metric(
        "updates",
        "Share of weights that differ",
        "How Many Weights of Each Projection Changed",
        "Share of the weights of every projection that differ between {compare_with} and {model} "
        "by more than {update[tolerance]:g}, compared at the checkpoints' own precision (the "
        "coarser of the two).",
    ),
    "update_effective_rank": Metric(
        "updates",
        "Effective rank of the update",
        "In How Many Directions Each Projection Moved",
        "Effective rank of ΔW from {compare_with} to {model}: exp(−Σ pᵢ log pᵢ) of its singular "
        "values σᵢ, pᵢ = σᵢ / Σ σⱼ (Roy and Vetterli 2007); grey where nothing changed.",
    ),
    "subspace_rotation": Metric(
        "updates",
        "Rotation of the top singular spaces (degrees)",
        "How Far the Strongest Directions of Each Projection Turned",
        "Mean principal angle in degrees between the spans of the {update[top_k]} first singular "
        "vectors of every projection in {compare_with} and in {model}, left and right averaged.",
    ),
    "quantization_error": Metric(
        "quantization",
        "Relative error of rounding",
        "How Much Each Projection Loses by Rounding",
        "‖W − Q(W)‖_F / ‖W‖_F of every projection of {model} for a round trip through "
        "{quantization[bits]} bits: blocks of {quantization[block_size]} weights along the input, "
        "{quantization[scheme]}, rounded to nearest, steps kept in "
        "float16.",
    ),
    "gguf_error": Metric(
        "quantization",
        "Expected relative error of the GGUF file",
        "How Much Each Projection Lost in Its GGUF File",
        "Expected relative error √(Σ step² / 12) / ‖W‖_F of every projection of {model} in its "
        "GGUF file, from the steps of the file's blocks: what rounding to nearest costs weights "
        "that lie evenly between two steps.",
    ),
}
# What a metric brings with it: both come from the same passes.
TOGETHER = {"ablation_effect": ("ablation_effect", "ablation_kl")}


def shown_metrics(metric: str | Sequence[str]) -> list[str]:
    """The metrics that a config's `metric` asks for, in its order, each once."""
    asked = [metric] if isinstance(metric, str) else metric
    return list(dict.fromkeys(name for one in asked for name in TOGETHER.get(one, (one,))))


def metrics_of_model(options: Mapping, model: str) -> list[str]:
    """The metrics of one model: a model is not compared with itself."""
    metrics = shown_metrics(options["metric"])
    if model == options["compare_with"]:
        metrics = [name for name in metrics if METRICS[name].measure != "updates"]
    return metrics


def name_maps(metrics: Sequence[str]) -> dict[str, str]:
    """{name of a figure's files: its metric}: the first metric's is module_map."""
    return {
        "module_map" if place == 0 else f"module_map_{name}": name
        for place, name in enumerate(metrics)
    }


def of_measure(metrics: Sequence[str], measure: str) -> list[str]:
    """Those of the metrics that a measure gives."""
    return [name for name in metrics if METRICS[name].measure == measure]


def drawing_options(options: Mapping, metric: str) -> dict[str, Any]:
    """What the drawing of one metric reads of the figure's options.

    limits and centre may be set for each metric by name; one that is not named has the default.
    """
    chosen = {key: value for key, value in options.items() if key not in ("texts", "limits")}
    limits, centre = options["limits"], options["centre"]
    return chosen | {
        "metric": metric,
        "limits": limits.get(metric, "robust") if isinstance(limits, Mapping) else limits,
        "centre": centre.get(metric, "auto") if isinstance(centre, Mapping) else centre,
    }


def described(metric: str, model: str, options: Mapping) -> str:
    """What a metric is, in words and as a formula; options as from `drawing_options`."""
    named = ("compare_with", "update", "quantization", "probe_token")
    return METRICS[metric].says.format(model=model, **{key: options.get(key) for key in named})
