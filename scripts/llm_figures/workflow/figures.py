"""The source of every figure: the table that it is drawn from and the module that draws it.

Targets, rules, report, bundle and manifest look figures up here. A figure of the config is
registered in `Figures`; its option class names its source.
"""

from collections.abc import Iterator

from llm_figures.claims.figures import FIGURES, KINDS, TARGETS
from llm_figures.claims.options import Choices
from llm_figures.plotting.style import FigureSource

FIGURE_TABLE = {
    **{name: kind.source for name, kind in KINDS.items()},
    "probe_presets": FigureSource(
        "probe/presets.parquet",
        "llm_figures.probe.presets_figure",
        by_default=False,
        title="The Presets of the Probe Side by Side",
    ),
    "choices": Choices.source,
}
# Figures that the target `figures` does not draw, and those of them with a target like any other.
FURTHER = tuple(name for name, source in FIGURE_TABLE.items() if not source.by_default)
FURTHER_TARGETS = tuple(name for name in TARGETS if name in FURTHER)


def find_source(figure: str) -> FigureSource:
    """The source of a figure; each further metric of the module map is a figure, too."""
    return FIGURE_TABLE["module_map" if figure.startswith("module_map_") else figure]


def list_figures(target: str) -> Iterator[str]:
    """The figures that a target draws, the one of its own name first."""
    yield target
    yield from (name for name, source in FIGURE_TABLE.items() if source.beside == target)


def list_scores(figures: tuple[str, ...] = FIGURES) -> dict[str, str]:
    """{figure: the file that it is drawn from, relative to results/{model}/}."""
    return {name: FIGURE_TABLE[name].scores for name in figures}
