"""Options of the matrix of transferred probes, probe_transfer."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llm_figures.core.options import AnyText, Drawing, Flag, Integer, Items, Options
from llm_figures.plotting.style import Figure, FigureSource, Limits, Palette
from llm_figures.probe.protocol import KEY_TOKENS
from llm_figures.probe.token_positions import NAMED_TOKENS


class TransferScoring(Options):
    """What the scores of transferred probes depend on besides the sections probe and datasets."""

    sets: Annotated[tuple[AnyText, ...], Items(2, distinct=True)] | None = None
    """null: every group of the dataset, and all datasets

    Names of the sets, in their order: groups of the run's own questions, and keys of datasets. null
    takes all. Sets with fewer than 20 right or 20 wrong answers are left out and named."""

    by_group: Flag = True
    """Whether each group of the run's own questions is a set

    Whether each group of the run's own questions (dataset.group) is a set. With false they are one
    set, named dataset."""

    layer: Annotated[Integer, Field(ge=0)] | None = None
    """null: chosen on the training set; or a layer for all probes, from 0 (embeddings)

    A layer for the probes of every set, from 0 (the embeddings). null chooses each probe's own on
    its training set."""

    tokens: Annotated[tuple[Literal[NAMED_TOKENS], ...], Items(1, distinct=True)] = KEY_TOKENS
    """Tokens that a probe's own is chosen from; a single one is that of all probes."""


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
