"""The one list of figures: the table that each is drawn from, and the library module that draws it.

Targets, rules, report, bundle and manifest take what they need to know of a figure from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class FigureSource:
    """Where a figure comes from.

    scores: the tidy Parquet file it is drawn from, below results/{model}/.
    module: the library module that draws it: `draw(scores, options)` returns a matplotlib figure,
        `describe(scores, model, options)` the caption.
    beside: the figure in whose target and section of the report it stands; else it has its own.
    by_default: whether the target `figures` draws it.
    compared: whether `compare` sets several models side by side in it.
    """

    scores: str
    module: str
    beside: str | None = None
    by_default: bool = True
    compared: bool = False


FIGURE_TABLE = {
    **{
        name: FigureSource(
            f"attention/{name}.parquet", "llm_figures.attention.figure", compared=True
        )
        for name in ("mean_qkv", "mean_qkv_tokens", "scale_qkv")
    },
    "probe_auc": FigureSource("probe/scores.parquet", "llm_figures.probe.figure", compared=True),
    "probe_curves": FigureSource(
        "probe/scores.parquet", "llm_figures.probe.curves_figure", beside="probe_auc"
    ),
    "module_map": FigureSource(
        "modules/scores.parquet", "llm_figures.modules.figure", compared=True
    ),
    "probe_presets": FigureSource(
        "probe/presets.parquet", "llm_figures.probe.presets_figure", by_default=False
    ),
    "choices": FigureSource(
        "choices.parquet", "llm_figures.claims.choices_figure", by_default=False
    ),
}
# Figures with a target of their own, of those that `figures` draws.
FIGURES = tuple(
    name for name, source in FIGURE_TABLE.items() if source.by_default and source.beside is None
)
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
