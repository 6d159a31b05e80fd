"""Options of the figures of sampled answers: error_kinds and answer_choice."""

from typing import Annotated, ClassVar, Literal

from llm_figures.core.options import Drawing, Items, Options
from llm_figures.plotting.style import Figure, FigureSource, LinePalette
from llm_figures.probe.token_positions import ANSWER_TOKENS, NAMED_TOKENS

Token = Literal[NAMED_TOKENS]
# last_q is the same for all samples of a question.
AnswerToken = Literal[ANSWER_TOKENS]


class ErrorKindsScoring(Options):
    """What the probes of the kinds depend on besides the section probe."""

    tokens: Annotated[tuple[Token, ...], Items(1, 4, distinct=True)] = (
        "last_q",
        "exact_answer_last",
    )
    """Tokens of the greedy answer that are probed; claims are about the last

    Tokens of the greedy answer at which the kind is probed, one line each. Claims and the caption
    are about the last of them."""


class ErrorKindsDrawing(Drawing):
    """Options of error_kinds that only its drawing reads."""

    palette: LinePalette = "colorblind"
    """Colours of the lines."""


class ErrorKinds(ErrorKindsDrawing, ErrorKindsScoring, Figure):
    """Kinds of error by resampling, how frequent each is, and how well a linear probe tells it.

    Orgad et al. 2025 (arXiv 2410.02707), section 5; the samples are those of the section resamples.
    """

    source: ClassVar[FigureSource] = FigureSource(
        "probe/error_kinds.parquet",
        "llm_figures.probe.error_kinds_figure",
        by_default=False,
        title="Kinds of error",
    )


class AnswerChoiceScoring(Options):
    """What the choice depends on besides the section probe."""

    token: AnswerToken = "exact_answer_last"
    """Token of the sampled answers at which the probe of a wrong answer reads

    Token of the greedy answers at which the probe of a wrong answer is trained, and of the sampled
    ones at which it reads. Its layer is chosen on the training questions."""


class AnswerChoiceDrawing(Drawing):
    """Options of answer_choice that only its drawing reads."""

    palette: LinePalette = "colorblind"
    """Colours of the strategies."""


class AnswerChoice(AnswerChoiceDrawing, AnswerChoiceScoring, Figure):
    """How often the answer is right that a probe chooses among several samples.

    Orgad et al. 2025 (arXiv 2410.02707), section 6; the samples are those of the section resamples.
    """

    source: ClassVar[FigureSource] = FigureSource(
        "probe/answer_choice.parquet",
        "llm_figures.probe.answer_choice_figure",
        by_default=False,
        title="Choosing among sampled answers",
    )
