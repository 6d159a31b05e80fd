"""Options of the probe and its figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llm_figures.core.options import (
    Drawing,
    Flag,
    Integer,
    Items,
    Number,
    Options,
    Says,
    Seed,
    by_kind,
)
from llm_figures.core.options_reader import read_options
from llm_figures.plotting.style import Figure, FigureSource, Limits, LinePalette, Palette
from llm_figures.probe.p_true_options import PTrue
from llm_figures.probe.protocol import (
    CROSS_VALIDATIONS,
    OF_LOGISTIC,
    PRESETS,
    TOKENS,
    Control,
    Kind,
    Protocol,
    Site,
)
from llm_figures.probe.resampling_options import AnswerChoice, ErrorKinds
from llm_figures.probe.token_positions import NAMED_TOKENS
from llm_figures.probe.transfer_options import ProbeTransfer

Token = Literal[NAMED_TOKENS]
Metric = Literal["auc", "accuracy", "f1", "average_precision"]
# A row of the probe's figure. Layer 0 is the embeddings.
Row = Annotated[
    Annotated[Integer, Field(ge=0)] | Annotated[str, Field(pattern=r"^(\d{1,2}(\.\d+)?|100)%$")],
    by_kind,
    Says("a layer from 0 (embeddings) or a share of the depth such as 12.5%"),
]


class ExportedCell(Options):
    """A probe to export."""

    layer: Annotated[
        Annotated[Integer, Field(ge=0)] | Literal["best"],
        by_kind,
        Says("best or a layer from 0 (embeddings)"),
    ] = "best"
    """best: the layer with the highest AUC; or a layer from 0 (the embeddings)."""

    token: Token
    """A token of probe_auc."""

    def __repr__(self) -> str:
        return f"{{layer: {self.layer}, token: {self.token}}}"


class Export(Options):
    """The probes that `snakemake probes_export` fits again, on all training questions."""

    cells: Annotated[
        Literal["best"] | Annotated[tuple[ExportedCell, ...], Items(1, distinct=True)],
        by_kind,
        Says("best, or a list of tables with layer and token"),
    ] = "best"
    """best (the layer with the highest AUC at each token), or [{layer: 20, token: last_q}, …]

    Which probes: best takes, at each token of probe_auc, the layer with the highest AUC. A list
    names layers and tokens, such as [{layer: 20, token: last_q}, {layer: best, token: "-1"}]."""


class Probe(Options):
    """The probe. preset sets the protocol; an option that is not null replaces its value."""

    preset: Literal[tuple(PRESETS)] = "strict"
    """strict, published, published_output

    strict standardises features, fits to convergence, cross-validates by question and adds
    controls. published is the protocol of the heatmaps of Orgad et al. 2025 (arXiv 2410.02707): the
    MLP's input, scikit-learn's default logistic regression and a single split. published_output is
    the same with the MLP's output, and without the token that ends an answer."""

    kind: Kind | None = None
    """logistic; also mean_difference, lda, mlp

    The probe itself: logistic regression (all presets); mean_difference, the projection onto the
    difference of the means of wrong and right answers (Marks & Tegmark 2023, arXiv 2310.06824);
    lda, linear discriminant analysis with Ledoit-Wolf shrinkage; mlp, a multilayer perceptron with
    one hidden layer of 64 units. solver, C and class_weight are options of logistic alone."""

    site: Site | None = None
    """residual | mlp_input; also mlp, attention, head

    What is probed: the residual stream after each block (strict); mlp_input, the input of the
    block's MLP (published); the output of its mlp (published_output) or attention; or head, the
    outputs of all attention heads of the block side by side, before the output projection.
    probe_heads probes them one by one. Layer 0 is the embeddings."""

    split: Literal["folds", "group_folds", "groups", "single", None] = None
    """folds | single; also group_folds, groups

    folds cross-validates by question (strict). group_folds cross-validates by group: the questions
    of a group (dataset.group) are all in the training set or all in the test set. groups tests one
    group after the other, by probes that are trained on all the others. single is one unstratified
    split with a fifth of the questions in the test set (published)."""

    folds: Annotated[Integer, Field(ge=2, le=20)] | None = None
    """5

    Number of cross-validation folds (strict 5)."""

    repeats: Annotated[Integer, Field(ge=1, le=100)] | None = None
    """1

    How often the folds are drawn anew (strict 1)."""

    standardise: Flag | None = None
    """true | false

    Whether features are scaled to mean 0 and standard deviation 1 on the training set (strict
    true, published false)."""

    solver: Literal["newton", "lbfgs", None] = None
    """newton (to convergence) | lbfgs (scikit-learn's default, 100 iterations)

    newton iterates to convergence (strict). lbfgs is scikit-learn's LogisticRegression with its
    default of 100 iterations, converged or not (published)."""

    C: Annotated[
        Annotated[Number, Field(ge=1e-12, le=1e12)] | Literal["auto", "cv"] | None,
        by_kind,
        Says("a number from 1e-12 to 1e12, auto, cv, null"),
    ] = None
    """auto (1 / hidden size) | 1.0; also cv, chosen inside the training set

    Inverse strength of the L2 penalty. auto (strict) is 1 / hidden size, which gives the logit of
    standardised features a prior of variance one, whatever the model's width. cv chooses among
    0.01 to 100 times that inside the training set. published takes 1."""

    class_weight: Literal["none", "balanced", None] = None
    """none; also balanced

    balanced gives right and wrong answers equal weight (none in all presets)."""

    short_answers: Literal["missing", "complete", None] = None
    """missing; also complete

    An answer of six tokens has no token -8. missing leaves the answer out of that column alone,
    complete leaves it out of every column (missing in all presets)."""

    controls: Annotated[tuple[Control, ...], Items(distinct=True)] | None = None
    """[shuffled_labels, shuffled_within_group] | []

    Probes that should fail, fitted beside every probe (both in strict, none in the published ones).
    shuffled_within_group needs groups with at least 20 training questions."""

    shuffles: Annotated[Integer, Field(ge=1, le=1000)] = 20
    """How often controls shuffle labels, in the chosen cells

    How often each control shuffles the training labels in the cells that are chosen among all; its
    score there is the mean. Elsewhere labels are shuffled once in each fold, with more scatter."""

    seed: Seed = 0
    """Seed of splits and shuffles."""

    jobs: Annotated[Integer, Field(ge=1, le=999)] = 1
    """Number of jobs that share the layers."""

    p_true: PTrue | None = PTrue()
    """null: leave this baseline out

    P(true), a baseline without a probe: the model is asked whether its answer is true (Kadavath
    et al. 2022). null leaves it out."""

    export: Export = Export()
    """The probes that `snakemake probes_export` fits again, on all training questions."""

    def problems(self) -> Iterator[str]:
        """One line for each option that the kind of probe does not have."""
        if self.kind in (None, "logistic"):
            return
        for key in OF_LOGISTIC:
            if getattr(self, key) is not None:
                yield (
                    f"probe.{key}: {getattr(self, key)}; only for probe.kind: logistic, and it is "
                    f"{self.kind}; leave one of them null"
                )

    def resolve(self, hold_out: bool) -> Protocol:
        """The preset's protocol with the values set here.

        hold_out: whether the dataset has held-out questions; the split is then "hold_out".
        """
        fields = {name: getattr(self, name) for name in Protocol.model_fields}
        given = {name: value for name, value in fields.items() if value is not None}
        protocol = PRESETS[self.preset].changed(**given)
        if protocol.kind != "logistic":
            protocol = protocol.changed(**dict.fromkeys(OF_LOGISTIC))
        if hold_out:
            protocol = protocol.changed(split="hold_out")
        if protocol.split not in CROSS_VALIDATIONS:
            protocol = protocol.changed(folds=1, repeats=1)
        elif protocol.split == "groups":  # one fold per group, and always the same
            protocol = protocol.changed(repeats=1)
        return protocol


class Highlight(Options):
    """The black rectangle of the probe's figure."""

    tokens: Annotated[tuple[Token, ...], Items(2, 2)] = ("first_answer", "-1")
    """First and last column inside

    First and last column inside. Of the default, whatever the figure's tokens are, those are
    inside that lie between the two."""

    layers: Annotated[tuple[Row, ...], Items(2, 2)] = ("12.5%", "87.5%")
    """First and last row inside; or layers, [4, 28]

    First and last row inside: layers, or shares of the depth."""

    def is_default(self) -> bool:
        """Whether the columns are the default ones, which need not be among the figure's tokens."""
        return self.tokens == type(self).model_fields["tokens"].default

    def find_columns(self, tokens: Sequence[str]) -> list[tuple[int, int]]:
        """First and last column of each rectangle, in a figure of these tokens.

        The default rectangle is drawn around those tokens between its ends that the figure has: one
        rectangle around each run of neighbours, none if there are none.
        """
        if not self.is_default():
            first, last = sorted(tokens.index(token) for token in self.tokens)
            return [(first, last)]
        first, last = map(NAMED_TOKENS.index, self.tokens)
        runs: list[tuple[int, int]] = []
        for column, token in enumerate(tokens):
            if first <= NAMED_TOKENS.index(token) <= last:
                start = runs.pop()[0] if runs and runs[-1][1] == column - 1 else column
                runs.append((start, column))
        return runs


class ProbeScoring(Options):
    """What the probe's scores depend on besides the section probe."""

    tokens: Annotated[tuple[Token, ...], Items(1, distinct=True)] | None = None
    """null takes the preset's: last_q, first_answer, second_answer, exact_answer_before_first,
    exact_answer_first, exact_answer_last, -8 to -1; published also exact_answer_after_last, and
    stop in place of -8; also answer_mean.

    Columns, from left to right. null takes those of probe.preset: the published figure's 14 for
    strict; for published_output exact_answer_after_last as well, and for published besides stop in
    place of -8. stop is the token that ended an answer; answers that were cut, or given by
    dataset.response, have none. answer_mean is the mean over all tokens of an answer."""


class ProbeAucDrawing(Drawing):
    """Options of the probe's figure that only its drawing reads."""

    metric: Metric = "auc"
    """auc, accuracy, f1, average_precision

    The score shown, of detecting a wrong answer (the positive class)."""

    highlight: Highlight | None = Highlight()
    """The black rectangle; null for none."""

    mark_best: Flag = True
    """A dot in the cell with the highest score

    Whether a dot marks the cell with the highest score, the first of equals."""

    palette: Palette = "Blues"
    """Colours of the cells."""

    limits: Limits = (0.5, 1.0)
    """Both ends of the colour scale."""


class ProbeAuc(ProbeAucDrawing, ProbeScoring, Figure):
    """How well a linear probe detects a wrong answer, by layer and token."""

    source: ClassVar[FigureSource] = FigureSource(
        "probe/scores.parquet", "llm_figures.probe.figure", compared=True
    )


class ProbeCurves(Drawing, Figure):
    """The probe's scores by layer, with confidence intervals and controls; made with probe_auc."""

    source: ClassVar[FigureSource] = FigureSource(
        "probe/scores.parquet", "llm_figures.probe.curves_figure", beside="probe_auc"
    )

    tokens: Annotated[tuple[Token, ...], Items(1, 8, distinct=True)] | None = None
    """null takes last_q, exact_answer_before_first, exact_answer_last, -1

    One panel each, among the tokens of probe_auc. null takes those of last_q,
    exact_answer_before_first, exact_answer_last and -1 that probe_auc has."""

    metric: Metric = "auc"
    """The score shown, of detecting a wrong answer (the positive class)."""

    palette: LinePalette = "colorblind"
    """Colours of the curves."""


class ProbeBestScoring(Options):
    """What the permutation test of the probe's highest cell and its repeated choice depend on."""

    permutations: Annotated[Integer, Field(ge=20, le=100_000)] = 200
    """How often labels are permuted; the smallest p is 1 / (1 + permutations)."""

    repeats: Annotated[Integer, Field(ge=2, le=100)] = 10
    """How often the folds are drawn again, and the cell chosen again in each of them

    How often the folds are drawn again. In every fold the cell is chosen anew and scored beside its
    controls; probe.shuffles says how often these shuffle the labels. Only for split: folds and
    group_folds."""

    shuffle: Literal["within_group", "overall"] = "within_group"
    """within_group (overall without groups) | overall

    Among which questions labels are permuted. within_group asks whether states say more than the
    question's group (dataset.group); without groups it is overall."""

    seed: Seed = 0
    """Seed of permutations and bootstrap resamples."""


class ProbeBestDrawing(Drawing):
    """What only the drawing of the probe's best cell reads."""

    palette: LinePalette = "colorblind"
    """Colours of the marks."""


class ProbeBest(ProbeBestDrawing, ProbeBestScoring, Figure):
    """The probe's best cell: chosen honestly, against permuted labels, and group by group."""

    source: ClassVar[FigureSource] = FigureSource(
        "probe/best.parquet",
        "llm_figures.probe.best_figure",
        by_default=False,
        title="The Probe's Best Cell",
    )


class ProbeHeadsScoring(Options):
    """What the scores of single heads depend on besides the section probe."""

    token: Token = "exact_answer_last"
    """The token at which heads are probed."""


class ProbeHeadsDrawing(Drawing):
    """Options of the figure of heads that only its drawing reads."""

    metric: Metric = "auc"
    """auc, accuracy, f1, average_precision

    The score shown, of detecting a wrong answer (the positive class)."""

    palette: Palette = "Blues"
    """Colours of the cells."""

    limits: Limits = (0.5, 1.0)
    """Both ends of the colour scale."""


class ProbeHeads(ProbeHeadsDrawing, ProbeHeadsScoring, Figure):
    """How well the output of each attention head tells a wrong answer, whatever probe.site is."""

    source: ClassVar[FigureSource] = FigureSource(
        "probe/heads.parquet",
        "llm_figures.probe.heads_figure",
        by_default=False,
        title="Which Attention Heads Tell a Wrong Answer",
    )


# The figures of this room: the config's section `figures` has one of these options for each.
FIGURES = {
    "probe_auc": ProbeAuc,
    "probe_curves": ProbeCurves,
    "probe_best": ProbeBest,
    "probe_heads": ProbeHeads,
    "probe_transfer": ProbeTransfer,
    "error_kinds": ErrorKinds,
    "answer_choice": AnswerChoice,
}


def list_protocols(config: Mapping) -> dict[str, dict]:
    """The protocols of a run, of plain values: the configured one, and all presets unchanged.

    config: checked and complete. Returns {name of the file of scores: {protocol, tokens}}. Single
    heads are probed by the configured one with the site "head" and a token of their own.
    """
    configured = read_options(Probe, config["probe"], "config: probe")
    hold_out = config["dataset"]["hold_out"] is not None
    presets = {name: Probe(preset=name, seed=configured.seed) for name in PRESETS}
    tokens = {"scores": config["figures"]["probe_auc"]["tokens"], **TOKENS}
    return {
        name: {"protocol": probe.resolve(hold_out).plain(), "tokens": tokens[name]}
        for name, probe in {"scores": configured, **presets}.items()
    }
