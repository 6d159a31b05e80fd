"""Palettes and fonts are checked before any job, each by the key that names it."""

import subprocess
import sys

import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.options import Options
from llm_figures.plotting.look import check_look
from llm_figures.workflow.config import Config


def list_palettes(options, under=""):
    """The dotted key of every palette of a config."""
    for name, value in options:
        if isinstance(value, Options):
            yield from list_palettes(value, f"{under}{name}.")
        elif name == "palette":
            yield f"{under}{name}"


PALETTES = list(list_palettes(Config()))


def config(key, value):
    *path, last = key.split(".")
    nested = {last: value}
    for part in reversed(path):
        nested = {part: nested}
    return Config.model_validate(nested)


@pytest.mark.parametrize("key", PALETTES)
def test_an_unknown_palette_is_named_by_its_key(key):
    for unknown in ("Bleus", "ch:nonsense"):
        with pytest.raises(UserError, match=f"^config: {key}: '{unknown}' is not known; allowed: "):
            check_look(config(key, unknown))
    check_look(config(key, "viridis"))


def test_palettes_are_of_maps_or_of_lines():
    assert len(PALETTES) > 10
    with pytest.raises(UserError, match="^config: figures.probe_auc.palette: 'deep' is a list of"):
        check_look(config("figures.probe_auc.palette", "deep"))
    check_look(config("figures.probe_auc.palette", "blue-white-orange"))
    check_look(config("figures.probe_curves.palette", "deep"))
    with pytest.raises(UserError, match="^config: figures.probe_curves.palette: 'blue-white-or"):
        check_look(config("figures.probe_curves.palette", "blue-white-orange"))


def test_an_unknown_font_and_palette_are_a_line_each():
    both = Config.model_validate(
        {"style": {"font": "Comic"}, "figures": {"sink_map": {"palette": "none"}}}
    )
    with pytest.raises(UserError) as refused:
        check_look(both)
    lines = sorted(str(refused.value).splitlines())
    assert [line.split(" is not")[0] for line in lines] == [
        "config: figures.sink_map.palette: 'none'",
        "config: style.font: 'Comic'",
    ]
    assert lines[1].endswith("such as DejaVu Sans or STIXGeneral")
    check_look(config("style.font", "STIXGeneral"))


def test_the_defaults_import_nothing_heavy():
    code = (
        "import sys; from llm_figures.plotting.look import check_look; "
        "from llm_figures.workflow.config import Config; check_look(Config()); print(*sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ).stdout  # fmt: skip
    assert not {"matplotlib", "seaborn", "pandas", "numpy"} & {*output.split()}
