# What the rules of modules.smk take as inputs and params.

from llm_figures.modules.metrics import METRICS, of_measure
from llm_figures.probe.options import Probe

# {measure: its file}; see llm_figures.modules.metrics
MEASURED = {
    "activity": "results/{model}/forward/module_activity.parquet",
    "ablation": "results/{model}/forward/module_ablation.parquet",
    "probe": "results/{model}/modules/metrics/probe.parquet",
    "updates": "results/{model}/modules/metrics/updates.parquet",
    "quantization": "results/{model}/modules/metrics/quantization.parquet",
}
# The texts of the module map, and the key of the config that has them. Texts in params are always
# returned by functions: Snakemake would take braces in a string for wildcards.
MAP_TEXTS = {
    "texts": lambda wildcards: list(MODULE_MAP.texts or config["inputs"]),
    "key": "figures.module_map.texts" if MODULE_MAP.texts else "inputs",
}
# The probes of the map are logistic regressions, whatever probe.kind is. Their controls are not
# fitted, so a change of them runs nothing again.
MAP_PROTOCOL = (
    Probe.model_validate(config["probe"] | {"kind": None})
    .resolve(config["dataset"]["hold_out"] is not None)
    .changed(controls=())
    .plain()
)


def measured_modules(wildcards):
    """{measure: its file} for the metrics of a model."""
    measures = dict.fromkeys(METRICS[name].measure for name in module_metrics(wildcards.model))
    return {measure: MEASURED[measure] for measure in measures}


def measured_on_texts(wildcards):
    """The measure of the module map's first metric, if it is made text by text."""
    measure = METRICS[module_metrics(wildcards.model)[0]].measure
    return {"measured": MEASURED[measure]} if measure in ("activity", "ablation") else {}


def compared_model_info(wildcards):
    """The model info of the checkpoint that the model's weights are compared with."""
    other = MODULE_MAP.compare_with
    if other in (None, model_of(wildcards.model)):
        problem = "is null" if other is None else f"is {other!r}, the model itself"
        sys.exit(f"config: figures.module_map.compare_with {problem}; name an earlier checkpoint")
    return f"results/{other}/model.json"


def weight_metrics(measure):
    """The configured metrics of a measure of weights; if there are none, all that need no option."""
    default = {
        "updates": of_measure(METRICS, "updates"),
        "quantization": ["quantization_error"],
    }
    return of_measure(MODULE_MAP.metrics, measure) or default[measure]
