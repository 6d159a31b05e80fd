"""Linear probes that detect a wrong answer: hidden states, fits, scores, the figure.

`load` and `load_all` read exported probes.
"""


def __getattr__(name: str):
    """`load` and `load_all`, imported when they are first used; no job depends on them."""
    if name in ("load", "load_all"):
        from importlib import import_module

        return getattr(import_module("llm_figures.probe.exported"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
