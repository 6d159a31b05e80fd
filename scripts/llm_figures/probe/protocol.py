"""The probe's protocol: a preset, and what the config sets beside it.

`published` follows Orgad et al. 2025 (arXiv 2410.02707) and its code: output of the MLP, one
unstratified split with a fifth tested, sklearn's default regression on raw features, a wrong answer
as the positive class.
"""

from collections.abc import Mapping

from llm_figures.probe.token_positions import NAMED_TOKENS

# Baselines without hidden states: the output's own confidence in an answer.
OUTPUT_BASELINES = ("answer_log_probability", "exact_answer_log_probability", "p_true")
# Left to right, as in the published figure; the published code looks at one more.
TOKENS = {
    "strict": [token for token in NAMED_TOKENS if token != "exact_answer_after_last"],
    "published": list(NAMED_TOKENS),
}
# Those that the curves show: the question's end, about the exact answer, the answer's end.
KEY_TOKENS = ("last_q", "exact_answer_before_first", "exact_answer_last", "-1")
PRESETS: dict[str, dict] = {
    "strict": {
        "site": "residual",
        "split": "folds",
        "folds": 5,
        "repeats": 1,
        "standardise": True,
        "solver": "newton",
        "C": "auto",
        "class_weight": "none",
        "short_answers": "missing",
        "controls": ["shuffled_labels", "shuffled_within_group"],
    },
    "published": {
        "site": "mlp",
        "split": "single",
        "folds": 5,
        "repeats": 1,
        "standardise": False,
        "solver": "lbfgs",
        "C": 1.0,
        "class_weight": "none",
        "short_answers": "missing",
        "controls": [],
    },
}


def protocol(probe: Mapping, hold_out: bool) -> dict:
    """The config's `probe` with its preset's values for what is null.

    hold_out: whether the dataset has held-out questions; the split is then "hold_out".
    """
    preset = PRESETS[probe["preset"]]
    chosen = {key: value if probe.get(key) is None else probe[key] for key, value in preset.items()}
    if hold_out:
        chosen["split"] = "hold_out"
    if chosen["split"] != "folds":
        chosen |= {"folds": 1, "repeats": 1}
    return chosen | {"seed": probe["seed"]}


def protocols(config: Mapping) -> dict[str, dict]:
    """{file of scores: {protocol, tokens}}: the probe as configured, and both presets untouched."""
    held_out = config["dataset"]["hold_out"] is not None
    seed = config["probe"]["seed"]
    return {
        "scores": {
            "protocol": protocol(config["probe"], held_out),
            "tokens": config["figures"]["probe_auc"]["tokens"],
        }
    } | {
        preset: {
            "protocol": protocol({"preset": preset, "seed": seed}, held_out),
            "tokens": TOKENS[preset],
        }
        for preset in PRESETS
    }


# What captions call the places that are probed.
SITES = {
    "residual": "the residual stream",
    "attention": "the attention output of each block",
    "mlp": "the MLP output of each block",
}


def describe_method(protocol: dict) -> str:
    scaled = (
        "features standardised on the training examples"
        if protocol["standardise"]
        else ("features as they are")
    )
    fitted = {
        "newton": "fitted to convergence",
        "lbfgs": "fitted by at most 100 steps of L-BFGS",
    }[protocol["solver"]]
    C = {"auto": "1 / hidden size", "cv": "chosen inside the training examples"}
    split = {
        "folds": f"{protocol['folds']} folds by question"
        + (f", {protocol['repeats']} times" if protocol["repeats"] > 1 else ""),
        "single": "one random split, a fifth tested",
        "hold_out": "fitted on all other questions, tested on the held-out ones",
    }[protocol["split"]]
    penalty = C.get(protocol["C"], f"{protocol['C']}")
    return (
        f"Logistic regression, {scaled}, C {penalty}, {fitted}; {split}; "
        f"{describe_intervals(protocol)} in brackets."
    )


def describe_intervals(protocol: dict) -> str:
    if protocol["split"] == "folds":
        return "95% intervals over folds (Nadeau & Bengio 2003)"
    return "95% bootstrap intervals over the tested answers"
