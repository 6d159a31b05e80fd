"""A protocol in words and numbers, for captions."""

import pandas as pd

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.probe.protocol import CROSS_VALIDATIONS, EPOCHS, HIDDEN_UNITS, STEPS, Protocol

# What captions call the probed sites.
SITES = {
    "residual": "the residual stream",
    "attention": "the attention output of each block",
    "mlp": "the MLP output of each block",
    "mlp_input": "the MLP input of each block",
    "head": "the outputs of all attention heads of each block, side by side,",
}
# What captions call a probe of each kind.
PROBES = {
    "logistic": "linear probe",
    "mean_difference": "linear probe (difference of class means)",
    "lda": "linear probe (linear discriminant analysis)",
    "mlp": "probe with a hidden layer (multilayer perceptron)",
}
# What descriptions of a protocol say in figures without stating a number of the run.
CONSTANTS = {
    "95%": "the level of all intervals",
    "Nadeau & Bengio 2003": "the year of a publication",
    "100 iterations": "the limit of L-BFGS in scikit-learn, in the published code",
    **dict.fromkeys(("1 / hidden size", "1 / number of features"), "the rule of C: auto"),
    "Marks & Tegmark 2023": "the year of a publication",
    "Ledoit & Wolf 2004": "the year of a publication",
    f"{HIDDEN_UNITS} units": "the size of the hidden layer",
    f"{STEPS} steps of Adam or {EPOCHS} epochs": "the length of the training",
}


def state_protocol(protocol: Protocol, under: str = "") -> StatedNumbers:
    """The numbers of `describe_method`. under: a prefix of their names."""
    numbers = StatedNumbers()
    penalty = protocol.C if isinstance(protocol.C, float | int) else None
    for name, value in (("folds", protocol.folds), ("repeats", protocol.repeats), ("c", penalty)):
        key = {"c": "probe.C"}.get(name, f"probe.{name}")
        numbers.take_option(f"{under}{name}", value, str, key)
    return numbers


def describe_method(
    protocol: Protocol, numbers: StatedNumbers | None = None, under: str = ""
) -> str:
    """How probes are fitted and scored, in one sentence for captions.

    numbers, under: as from `state_protocol`, by default.
    """
    numbers = numbers or state_protocol(protocol, under)
    folds, repeats = numbers[f"{under}folds"], numbers[f"{under}repeats"]
    times = f", {repeats} times" if protocol.repeats > 1 else ""
    split = {
        "folds": f"{folds} folds by question{times}",
        "group_folds": f"{folds} folds by group, whole groups in the test set{times}",
        "groups": "one fold for each group, which is tested by probes of all the others",
        "single": "one random split with a fifth of the questions in the test set",
        "hold_out": "trained on all other questions, tested on the held-out ones",
    }[protocol.split]
    return (
        f"{describe_fit(protocol, numbers, under)}; {split}; {describe_intervals(protocol)} in "
        "brackets."
    )


def describe_fit(protocol: Protocol, numbers: StatedNumbers, under: str = "") -> str:
    """How a probe is fitted, without a full stop. numbers, under: as from `state_protocol`."""
    features = (
        "features standardised on the training set"
        if protocol.standardise
        else "raw features, not standardised"
    )
    return {
        "logistic": lambda: _describe_regression(protocol, features, f"{numbers[f'{under}c']}"),
        "mean_difference": lambda: (
            f"Projection onto the difference of the class means (Marks & Tegmark 2023), {features}"
        ),
        "lda": lambda: (
            f"Linear discriminant analysis, {features}, the covariance of either class shrunk "
            "(Ledoit & Wolf 2004)"
        ),
        "mlp": lambda: (
            f"Multilayer perceptron with one hidden layer of {HIDDEN_UNITS} units, {features}, "
            f"trained for {STEPS} steps of Adam or {EPOCHS} epochs, whichever is longer"
        ),
    }[protocol.kind]()


def _describe_regression(protocol: Protocol, features: str, penalty: str) -> str:
    fit = {
        "newton": "fitted to convergence",
        "lbfgs": "fitted by at most 100 iterations of L-BFGS",
    }[protocol.solver]
    size = "number of features" if protocol.site == "head" else "hidden size"
    rule = {"auto": f"1 / {size}", "cv": "chosen within the training set"}
    return f"Logistic regression, {features}, C {rule.get(protocol.C, penalty)}, {fit}"


def name_probe(scores: pd.DataFrame) -> str:
    """What captions call the probe of a table of scores, which has its protocol in its metadata."""
    return PROBES[(scores.attrs.get("protocol") or {}).get("kind", "logistic")]


def describe_intervals(protocol: Protocol) -> str:
    """How the intervals of a protocol are estimated."""
    if protocol.split in CROSS_VALIDATIONS:
        return "95% intervals over folds (Nadeau & Bengio 2003)"
    return "95% bootstrap intervals over the test answers"
