"""A protocol in words and numbers, for captions."""

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol

# What captions call the probed sites.
SITES = {
    "residual": "the residual stream",
    "attention": "the attention output of each block",
    "mlp": "the MLP output of each block",
}
# What descriptions of a protocol say in figures without stating a number of the run.
CONSTANTS = {
    "95%": "the level of all intervals",
    "Nadeau & Bengio 2003": "the year of a publication",
    "100 iterations": "the limit of L-BFGS in scikit-learn, in the published code",
    "1 / hidden size": "the rule of C: auto",
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
    fit = {
        "newton": "fitted to convergence",
        "lbfgs": "fitted by at most 100 iterations of L-BFGS",
    }[protocol.solver]
    penalty = {"auto": "1 / hidden size", "cv": "chosen within the training set"}
    shown = penalty.get(protocol.C, numbers[f"{under}c"])
    return f"Logistic regression, {features}, C {shown}, {fit}"


def describe_intervals(protocol: Protocol) -> str:
    """How the intervals of a protocol are estimated."""
    if protocol.split in CROSS_VALIDATIONS:
        return "95% intervals over folds (Nadeau & Bengio 2003)"
    return "95% bootstrap intervals over the test answers"
