"""Options of the matrix of transferred probes, probe_transfer."""

from typing import Annotated, ClassVar, Literal

from llm_figures.core.options import AnyText, Drawing, Items, Options
from llm_figures.plotting.style import Figure, FigureSource, Limits, Palette
from llm_figures.probe.protocol import KEY_TOKENS
from llm_figures.probe.token_positions import NAMED_TOKENS


class TransferScoring(Options):
    """What the scores of transferred probes depend on besides the sections probe and datasets."""

    sets: Annotated[tuple[AnyText, ...], Items(2, distinct=True)] | None = None
    """null: every group of the dataset, and all datasets

    Names of the sets, in their order: groups of the run's own questions, and keys of datasets. null
    takes all. Sets with fewer than 20 right or 20 wrong answers are left out and named."""

    tokens: Annotated[tuple[Literal[NAMED_TOKENS], ...], Items(1, distinct=True)] = KEY_TOKENS
    """Tokens that a probe's own is chosen from."""


class ProbeTransferDrawing(Drawing):
    """Options of the matrix of transferred probes that only its drawing reads."""

    palette: Palette = "Blues"
    """Colours of the cells."""

    limits: Limits = (0.5, 1.0)
    """Both ends of the colour scale."""


class ProbeTransfer(ProbeTransferDrawing, TransferScoring, Figure):
    """Probes that are trained on one set of questions and tested on another."""

    source: ClassVar[FigureSource] = FigureSource(
        "probe/transfer.parquet",
        "llm_figures.probe.transfer_figure",
        by_default=False,
        title="Transfer of Probes Between Sets of Questions",
    )
