"""What docs/colours.md says of each palette, computed: in greyscale and in colour blindness.

Colours are compared in CAM02-UCS (Luo, Cui and Li 2006), where a distance of 1 is about the least
that is seen; colour blindness is simulated as in Machado, Oliveira and Fernandes (2009).
"""

import re
from itertools import combinations

import numpy as np
import pytest
import yaml
from colorspacious import cspace_convert

from llm_figures.plotting.drawing import find_colour_map, find_colours
from llm_figures.probe.curves_figure import DASHES, DOTS

VIEWERS = ("normal", "greyscale", "deuteranopia", "protanopia", "tritanopia")
# Of two colours that a reader tells apart at a glance, in neighbouring areas and in thin lines.
AREAS_APART, LINES_APART = 10, 5


def see(colours, viewer):
    """Colours [n, 3] of sRGB in 0–1, as a viewer sees them: lightness and two hues [n, 3]."""
    if viewer not in ("normal", "greyscale"):
        space = {
            "name": "sRGB1+CVD",
            "cvd_type": viewer.replace("opia", "omaly"),
            "severity": 100,  # the whole of it
        }
        colours = np.clip(cspace_convert(colours, space, "sRGB1"), 0, 1)
    seen = cspace_convert(colours, "sRGB1", "CAM02-UCS")
    return seen * (1, 0, 0) if viewer == "greyscale" else seen


def judge(palette, viewer):
    """What remains of the order of values: "order", "sides" of the middle, or "no"."""
    seen = see(find_colour_map(palette)(np.linspace(0, 1, 101))[:, :3], viewer)
    steps = np.diff(seen[:, 0])
    if (steps > 0).all() or (steps < 0).all():
        return "order"
    below, above = steps[:50], steps[50:]
    # each side grows darker (or lighter) from the middle, but for a rounding at the middle itself
    both = (below[:-2] > 0).all() and (above[2:] < 0).all()
    distances = np.linalg.norm(seen - seen[::-1], axis=1)
    return "sides" if both and distances[:35].min() > AREAS_APART else "no"


def documented(root):
    """{palette: {viewer: what docs/colours.md says}}."""
    text = (root / "docs" / "colours.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+(?: \| \w+){4}) \|$", text, re.MULTILINE)
    return {name: dict(zip(VIEWERS, cells.split(" | "), strict=True)) for name, cells in rows}


def test_the_documented_palettes_are_seen_as_the_page_says(root):
    table = documented(root)
    assert len(table) >= 8
    assert table == {
        palette: {viewer: judge(palette, viewer) for viewer in VIEWERS} for palette in table
    }


def test_the_page_has_every_palette_of_the_default_config(root):
    def palettes(node):
        for key, value in node.items() if isinstance(node, dict) else ():
            if key == "palette":
                yield value
            yield from palettes(value)

    config = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert {*palettes(config)} - {"colorblind"} <= documented(root).keys()


def test_the_overlay_for_print_keeps_the_order_of_values_for_everyone(root):
    overlay = yaml.safe_load((root / "config" / "greyscale.yaml").read_text(encoding="utf-8"))
    default = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    maps = [name for name, own in default["figures"].items() if own["palette"] != "colorblind"]
    for name in maps:
        own = overlay["figures"].get(name, {})
        palette = own.get("palette", default["figures"][name]["palette"])
        assert {judge(palette, viewer) for viewer in VIEWERS} == {"order"}, name


@pytest.mark.parametrize("viewer", VIEWERS[:1] + VIEWERS[2:])
def test_curves_differ_in_colour_for_everyone_who_sees_some(viewer):
    seen = see(np.array(find_colours("colorblind", 1 + len(DASHES))), viewer)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > LINES_APART


def test_curves_differ_without_their_colours():
    assert len({*DASHES, *DOTS}) == len(DASHES) + len(DOTS)
