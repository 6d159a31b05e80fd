# What the rules of modules.smk take as inputs and params.

from llm_figures.modules.metrics import METRICS, of_measure, shown_metrics

# What the metrics of the module map are made from, by measure (see llm_figures.modules.metrics).
MEASURED = {
    "activity": "results/{model}/forward/module_activity.parquet",
    "ablation": "results/{model}/forward/module_ablation.parquet",
    "probe": "results/{model}/modules/metrics/probe.parquet",
    "updates": "results/{model}/modules/metrics/updates.parquet",
    "quantization": "results/{model}/modules/metrics/quantization.parquet",
}
# What the module map's passes go over, and the key that says so. As in all params, texts of the
# user's are given by functions: Snakemake would take braces in a text itself for wildcards.
MAP_TEXTS = {
    "texts": lambda wildcards: config["figures"]["module_map"]["texts"] or config["inputs"],
    "key": "figures.module_map.texts" if config["figures"]["module_map"]["texts"] else "inputs",
}


def measured_modules(wildcards):
    """{measure: its file} that the metrics of a model are made from."""
    measures = dict.fromkeys(METRICS[name].measure for name in module_metrics(wildcards.model))
    return {measure: MEASURED[measure] for measure in measures}


def measured_on_texts(wildcards):
    """What the module map's first metric is made from, where that is measured text by text."""
    measure = METRICS[module_metrics(wildcards.model)[0]].measure
    return {"measured": MEASURED[measure]} if measure in ("activity", "ablation") else {}


def compared_model_info(wildcards):
    """The model_info of the checkpoint that the model's weights are compared with."""
    other = config["figures"]["module_map"]["compare_with"]
    if other in (None, wildcards.model):
        is_it = "is null" if other is None else f"is {other!r}, the model itself"
        sys.exit(f"config: figures.module_map.compare_with {is_it}; name an earlier checkpoint")
    return f"results/{other}/model.json"


def weight_metrics(measure):
    """The metrics of a file of scores of weights; where none is asked, those that need no more."""
    default = {
        "updates": of_measure(METRICS, "updates"),
        "quantization": ["quantization_error"],
    }
    asked = shown_metrics(config["figures"]["module_map"]["metric"])
    return of_measure(asked, measure) or default[measure]
