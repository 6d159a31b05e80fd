"""The probe's protocol: how probes are fitted and scored, and the presets.

`published` follows Orgad et al. 2025 (arXiv 2410.02707) and the code for its heatmaps: input of the
MLP, the token that ended an answer counted as its last, one unstratified split with a fifth of the
questions in the test set, scikit-learn's default logistic regression on raw features, a wrong
answer as the positive class. `published_output` is the same with the output of the MLP, which that
code takes in its other examples, and without the token that ended an answer.
"""

from typing import Annotated, Literal, get_args

from llm_figures.core.errors import UserError
from llm_figures.core.options import Flag, Integer, Items, Number, Options, Seed, by_kind
from llm_figures.probe.token_positions import MEAN, NAMED_TOKENS, STOP
from llm_figures.questions.log_probabilities import LOG_PROBABILITIES

# Baselines without hidden states: the output's own confidence in an answer. Each score by itself,
OUTPUT_SCORES = (*LOG_PROBABILITIES, "p_true")
# all of them as the features of one probe, and these beside the question's group.
OUTPUT_COMBINED, OUTPUT_AND_GROUP = "output_combined", "output_and_group"
OUTPUT_BASELINES = (*OUTPUT_SCORES, OUTPUT_COMBINED, OUTPUT_AND_GROUP)
# What the names of further scores begin with, of probe.p_true.variants.
VARIANT = "p_true_"
_OUTPUT_TOKENS = [token for token in NAMED_TOKENS if token not in (STOP, MEAN)]
# Left to right, as in the published figure; the published code has one token more. It counts the
# token that ended an answer as -1, so that its -8 to -1 are our -7 to -1 and `stop`.
TOKENS = {
    "strict": [token for token in _OUTPUT_TOKENS if token != "exact_answer_after_last"],
    "published": [token for token in (*_OUTPUT_TOKENS, STOP) if token != "-8"],
    "published_output": _OUTPUT_TOKENS,
}
# Tokens of the curves: the end of the question, around the exact answer, the end of the answer.
KEY_TOKENS = ("last_q", "exact_answer_before_first", "exact_answer_last", "-1")

# Labels of groups with fewer training examples than this are not shuffled within the group: in a
# group of one the shuffled label is the true one, and the control would be the probe itself.
SMALLEST_GROUP = 20
# Splits in which every question is tested once a repeat.
CROSS_VALIDATIONS = ("folds", "group_folds", "groups")
# Those of them that keep all questions of a group on one side.
BY_GROUP = ("group_folds", "groups")

Control = Literal["shuffled_labels", "shuffled_within_group"]
SHUFFLED: tuple[Control, ...] = get_args(Control)
Site = Literal["residual", "attention", "mlp", "mlp_input", "head"]
Kind = Literal["logistic", "mean_difference", "lda", "mlp"]
# Options that only logistic regression has; in the protocol of another kind they are None.
OF_LOGISTIC = ("solver", "C", "class_weight")
# Of the multilayer perceptron: units of its only hidden layer, and how long it is trained. Its
# training is as long as that, whatever the loss: no questions are set aside to stop it early.
HIDDEN_UNITS = 64
STEPS, EPOCHS, BATCH = 250, 20, 200


class Protocol(Options):
    """How probes are fitted and scored: a preset with the config's own values, all resolved."""

    kind: Kind = "logistic"
    site: Site
    split: Literal["folds", "group_folds", "groups", "single", "hold_out"]
    folds: Integer
    repeats: Integer
    standardise: Flag
    solver: Literal["newton", "lbfgs", None]
    C: Annotated[Number | Literal["auto", "cv"] | None, by_kind]
    class_weight: Literal["none", "balanced", None]
    short_answers: Literal["missing", "complete"]
    controls: Annotated[tuple[Control, ...], Items()]
    seed: Seed = 0


_PUBLISHED = Protocol(
    site="mlp_input",
    split="single",
    folds=5,
    repeats=1,
    standardise=False,
    solver="lbfgs",
    C=1.0,
    class_weight="none",
    short_answers="missing",
    controls=(),
)
PRESETS = {
    "strict": Protocol(
        site="residual",
        split="folds",
        folds=5,
        repeats=1,
        standardise=True,
        solver="newton",
        C="auto",
        class_weight="none",
        short_answers="missing",
        controls=SHUFFLED,
    ),
    "published": _PUBLISHED,
    "published_output": _PUBLISHED.changed(site="mlp"),
}


def check_exportable(kind: str) -> None:
    """Check that a kind of probe has weights for the format of the export.

    Raises:
        UserError: it is not linear.
    """
    if kind == "mlp":
        raise UserError(
            "config: probe.kind: mlp: probes_export writes linear probes, and this one has a "
            "hidden layer; export another kind (logistic, mean_difference or lda)"
        )
