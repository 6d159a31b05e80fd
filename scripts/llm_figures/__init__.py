"""The library behind the scripts: arrays and frames in, arrays and frames out.

Only modules of the forward stage import torch (such as `models.loading`, `attention.attention_hook`
and `inference.generation`). Scoring and drawing never do, so a changed colour takes seconds.

`from llm_figures import Results` and the other names for notebooks are those of
`llm_figures.notebook.PUBLIC`.
"""


def __getattr__(name: str):
    """The names for notebooks, and the rooms, each imported when it is first used.

    Digests of the code follow import statements, so these are none: no job depends on the names.
    """
    from importlib import import_module, util

    public = {} if name.startswith("_") else import_module("llm_figures.notebook").PUBLIC
    if name in public:
        return getattr(import_module(public[name]), name)
    if public and util.find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from importlib import import_module

    return sorted([*globals(), *import_module("llm_figures.notebook").PUBLIC])
