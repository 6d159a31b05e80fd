"""Where every figure comes from: the table that it is drawn from, the module that draws it.

Targets, rules, report, bundle and manifest take what they need to know of a figure from here. A
figure of the config is registered in `Figures`; its class of options says where it comes from.
"""

from collections.abc import Iterator

from llm_figures.claims.figures import FIGURES, KINDS
from llm_figures.claims.options import Choices
from llm_figures.plotting.style import FigureSource

FIGURE_TABLE = {
    **{name: kind.source for name, kind in KINDS.items()},
    "probe_presets": FigureSource(
        "probe/presets.parquet", "llm_figures.probe.presets_figure", by_default=False
    ),
    "choices": Choices.source,
}
FURTHER = tuple(name for name, source in FIGURE_TABLE.items() if not source.by_default)


def find_source(figure: str) -> FigureSource:
    """The table's row of a figure; each further metric of the module map is a figure, too."""
    return FIGURE_TABLE["module_map" if figure.startswith("module_map_") else figure]


def figures_of_target(target: str) -> Iterator[str]:
    """The figures that a figure's target draws, itself first."""
    yield target
    yield from (name for name, source in FIGURE_TABLE.items() if source.beside == target)


def scores_of_figures(figures: tuple[str, ...] = FIGURES) -> dict[str, str]:
    """{figure: the file it is drawn from, below results/{model}/}."""
    return {name: FIGURE_TABLE[name].scores for name in figures}
