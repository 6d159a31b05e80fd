"""The registry of figures: what each is called, which options it has, and where it is made.

A figure is one field of `Figures`. Its class says where it comes from (see `FigureSource`); names,
order and groups follow from here.
"""

from llm_figures.attention.options import AttentionFigure, MeanQkv, MeanQkvTokens, ScaleQkv
from llm_figures.core.options import Options
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.style import Figure
from llm_figures.probe.options import ProbeAuc, ProbeCurves


class Figures(Options):
    """Options of every figure."""

    mean_qkv: MeanQkv = MeanQkv()
    """Attention maps after Query, Key or Value is replaced by its mean."""

    mean_qkv_tokens: MeanQkvTokens = MeanQkvTokens()
    """The same by the mean over tokens."""

    scale_qkv: ScaleQkv = ScaleQkv()
    """Attention maps after Query, Key or Value is scaled by ε."""

    probe_auc: ProbeAuc = ProbeAuc()
    """How well a linear probe detects a wrong answer, by layer and token."""

    probe_curves: ProbeCurves = ProbeCurves()
    """The probe's scores by layer; made with probe_auc."""

    module_map: ModuleMap = ModuleMap()
    """A metric of every projection of every layer."""


# {figure: its class}, in the order in which figures are shown.
KINDS: dict[str, type[Figure]] = {
    name: field.annotation for name, field in Figures.model_fields.items()
}
# Figures with a target of their own, and those of attention among them.
FIGURES = tuple(name for name, kind in KINDS.items() if kind.source.beside is None)
ATTENTION_FIGURES = tuple(name for name in FIGURES if issubclass(KINDS[name], AttentionFigure))
