"""The metrics of the module map: their measures, their captions and their colour scales."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric of modules/scores.parquet.

    measure: what it is computed from: "activity" (a pass over the texts), "ablation" (passes with
        one projection ablated), "probe" (outputs at the answers), "updates" (two checkpoints'
        weights) or "quantization" (the weights alone).
    label: of the colour bar. title: of the report's section.
    caption: a template with `model` and the fields of `MetricMap`.
    neutral: the value without meaning, drawn white; None has the middle of the limits white.
    undefined: where the metric is not defined, in words; None if it always is.
    robust: the percentiles of limits: robust; closer where a few cells are far above all others.
    """

    measure: str
    label: str
    title: str
    caption: str
    neutral: float | None = None
    robust: tuple[float, float] = (2, 98)
    undefined: str | None = None


OVER_TOKENS = "averaged over the tokens of the texts"
METRICS = {
    "operation_strength": Metric(
        "activity",
        "Operation strength",
        "How Strongly Each Projection Acts on Its Inputs",
        f"Operation strength ‖Wx‖ / (‖W‖_F ‖x‖) of every projection of {{model}}, {OVER_TOKENS} "
        "(without bias). Dimensionless; 1/√d_in for an input in a random direction.",
        undefined="its weights, or all of its inputs, are zero",
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
        "How Well Each Projection's Inputs Align With Its Weights",
        "Input alignment ‖Wx‖ √d_in / (‖W‖_F ‖x‖) of every projection of {model}, "
        f"{OVER_TOKENS} (without bias): the output's norm divided by its root mean square for "
        "inputs of the same norm in random directions.",
        neutral=1.0,
        undefined="its weights, or all of its inputs, are zero",
    ),
    "ablation_effect": Metric(
        "ablation",
        "Rise in loss (nats per token)",
        "How Much the Predictions Lose Without Each Projection",
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
        "KL(clean ‖ ablated) of the next-token distributions of {model} on the texts when the "
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
        undefined="no fold has right and wrong answers to tell apart",
    ),
    "relative_update": Metric(
        "updates",
        "Relative update",
        "How Far Each Projection Moved",
        "Relative update ‖ΔW‖_F / ‖W‖_F of every projection from {compare_with} (W) to {model} "
        "(W + ΔW).",
        undefined="its earlier weights are all zero",
    ),
    "update_density": Metric(
        "updates",
        "Share of weights that differ",
        "How Many Weights of Each Projection Changed",
        "Share of the weights of every projection that differ between {compare_with} and {model} "
        "by more than {update.tolerance:g}, compared at the checkpoints' own precision (the "
        "coarser of the two).",
    ),
    "update_effective_rank": Metric(
        "updates",
        "Effective rank of the update",
        "In How Many Directions Each Projection Moved",
        "Effective rank of ΔW from {compare_with} to {model}: exp(−Σ pᵢ log pᵢ) of its singular "
        "values σᵢ, pᵢ = σᵢ / Σ σⱼ (Roy and Vetterli 2007).",
        undefined="nothing changed",
    ),
    "subspace_rotation": Metric(
        "updates",
        "Rotation of the top singular spaces (degrees)",
        "How Far the Strongest Directions of Each Projection Turned",
        "Mean principal angle in degrees between the spans of the {update.top_k} first singular "
        "vectors of every projection in {compare_with} and in {model}, left and right averaged.",
        undefined="its weights are all zero in one of the two",
    ),
    "quantization_error": Metric(
        "quantization",
        "Relative error of rounding",
        "How Much Each Projection Loses by Rounding",
        "‖W − Q(W)‖_F / ‖W‖_F of every projection of {model} for a round trip through "
        "{quantization.bits} bits: blocks of {quantization.block_size} weights along the input, "
        "{quantization.scheme}, rounded to nearest, steps kept in "
        "float16.",
        undefined="its weights are all zero",
    ),
    "gguf_error": Metric(
        "quantization",
        "Expected relative error of the GGUF file",
        "How Much Each Projection Lost in Its GGUF File",
        "Expected relative error √(Σ step² / 12) / ‖W‖_F of every projection of {model} in its "
        "GGUF file, from the steps of the file's blocks: what rounding to nearest costs weights "
        "that lie evenly between two steps.",
        undefined="its weights are all zero",
    ),
}
# Metrics that are shown together, because they come from the same passes.
TOGETHER = {"ablation_effect": ("ablation_effect", "ablation_kl")}


def shown_metrics(metric: str | Sequence[str]) -> list[str]:
    """The metrics that a config's `metric` asks for, in its order, each once."""
    metrics = [metric] if isinstance(metric, str) else metric
    return list(dict.fromkeys(name for one in metrics for name in TOGETHER.get(one, (one,))))


def name_maps(metrics: Sequence[str]) -> dict[str, str]:
    """{name of a figure's files: its metric}; that of the first metric is module_map."""
    return {
        "module_map" if number == 0 else f"module_map_{name}": name
        for number, name in enumerate(metrics)
    }


def of_measure(metrics: Sequence[str], measure: str) -> list[str]:
    """Those of the metrics that are computed from a measure."""
    return [name for name in metrics if METRICS[name].measure == measure]
