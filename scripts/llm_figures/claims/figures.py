"""The registry of figures: names, options and where each comes from, room by room.

A room lists its figures in `FIGURES` of its options; the class of a figure's options says where the
figure comes from (see `FigureSource`). Names, order and groups follow from here.
"""

from pydantic import create_model

from llm_figures.attention.options import FIGURES as OF_ATTENTION
from llm_figures.attention.options import AttentionFigure
from llm_figures.core.options import Options
from llm_figures.modules.options import FIGURES as OF_MODULES
from llm_figures.plotting.style import Figure
from llm_figures.probe.options import FIGURES as OF_PROBE

# {figure: its class}, in the order in which figures are shown.
KINDS: dict[str, type[Figure]] = {**OF_ATTENTION, **OF_PROBE, **OF_MODULES}
Figures = create_model(
    "Figures",
    __base__=Options,
    __doc__="Options of every figure.",
    __module__=__name__,
    **{name: (kind, kind()) for name, kind in KINDS.items()},
)
# Figures with a target of their own, and those of them that the target `figures` draws.
TARGETS = tuple(name for name, kind in KINDS.items() if kind.source.beside is None)
FIGURES = tuple(name for name in TARGETS if KINDS[name].source.by_default)
# Attention maps under interventions.
ATTENTION_FIGURES = tuple(name for name in FIGURES if issubclass(KINDS[name], AttentionFigure))
# Claims about these are about the cells that the figure's module lists; the others have own rules.
TABLE_FIGURES = tuple(
    name for name in TARGETS if name not in (*ATTENTION_FIGURES, "probe_auc", "module_map")
)
