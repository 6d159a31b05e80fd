"""Files of a figure: deterministic images, and notes on what its panels show."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from llm_figures.core.alt_text import make_alt_text
from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.errors import UserError
from llm_figures.plotting.layout import find_layout

# Of a PNG: in each direction, and altogether.
LONGEST_SIDE = 65_535
MOST_PIXELS = 600_000_000
# Heatmaps of more cells altogether are images in vector files, too. A cell takes 20 bytes of a PDF.
VECTOR_CELLS = 20_000
# Points by which a cell reaches below the next ones in vector files: one pixel at 60 dpi.
OVERLAP = 1.2
# The notes on the panels of a figure with more cells leave out the values.
MOST_CELLS = 100_000


def save(
    fig: Figure, paths: Sequence[str | Path], panels: str | Path | None = None, caption: str = ""
) -> None:
    """Write the figure in the format of each path's suffix: pdf, svg or png.

    Files do not depend on the time or the run. panels: JSON file for `describe_panels`.
    caption: gives the alt text of each: the title of an SVG, the subject of a PDF, the description
    of a PNG.

    Raises:
        UserError: a figure that is too large for an image.
    """
    _check_size(fig)
    heatmaps = [ax for ax in fig.axes if hasattr(ax, "panel")]
    as_image = sum(ax.panel[1].size for ax in heatmaps) > VECTOR_CELLS
    for ax in heatmaps:
        ax.collections[0].set_rasterized(as_image)
    alt = make_alt_text(caption)
    metadata = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": alt},
        "svg": {"Date": None, "Creator": None, "Title": alt},
        "png": {"Software": None, "Description": alt},
    }
    sized = find_layout().sized
    box = Bbox.from_bounds(0, 0, *fig.get_size_inches()) if sized else _measure_ink(fig)
    for path in map(Path, paths):
        kind = path.suffix.removeprefix(".")
        overlapping = [] if as_image or kind == "png" else heatmaps
        with whole_file(path) as partial, _overlapping_cells(overlapping):
            fig.savefig(partial, format=kind, metadata=metadata[kind], bbox_inches=box)
            if kind == "svg":  # browsers read the title of an image only
                text = Path(partial).read_text(encoding="utf-8")
                Path(partial).write_text(text.replace("<svg ", '<svg role="img" ', 1), "utf-8")
    if panels is not None:
        text = json.dumps(describe_panels(fig, box), ensure_ascii=False, separators=(",", ":"))
        write_text(panels, text)
    plt.close(fig)


@contextmanager
def _overlapping_cells(panels: Sequence) -> Iterator[None]:
    """Draw the cells of heatmaps so that each reaches under those that are drawn after it.

    Viewers of vector files blend the edge of a shape with what is under it. Cells that only touch
    each other would let the page through, as fine lines.
    """
    drawn = []
    for number, ax in enumerate(panels, start=1):
        mesh, points = ax.collections[0], 72 / ax.figure.dpi
        mesh.update_scalarmappable()
        unit = np.abs(ax.transData.transform((1, 1)) - ax.transData.transform((0, 0))) * points
        corners = mesh.get_coordinates()
        low = corners[:-1, :-1].reshape(-1, 2)
        high = corners[1:, 1:].reshape(-1, 2) + OVERLAP / unit
        places = [(low[:, 0], low[:, 1]), (high[:, 0], low[:, 1]),
                  (high[:, 0], high[:, 1]), (low[:, 0], high[:, 1])]  # fmt: skip
        cells = PolyCollection(
            np.stack([np.stack(place, axis=-1) for place in places], axis=1),
            facecolors=mesh.get_facecolors(),
            edgecolors="none",
            linewidths=0,
            zorder=mesh.get_zorder(),
            gid=f"cells-{number}",
        )
        ax.add_collection(cells, autolim=False)
        mesh.set_visible(False)
        drawn.append((mesh, cells))
    try:
        yield
    finally:
        for mesh, cells in drawn:
            cells.remove()
            mesh.set_visible(True)


def _check_size(fig: Figure) -> None:
    dpi = plt.rcParams["savefig.dpi"]
    width, height = fig.get_size_inches()
    pixels = [round(side * dpi) for side in (width, height)]
    if max(pixels) > LONGEST_SIDE or pixels[0] * pixels[1] > MOST_PIXELS:
        raise UserError(
            f"the figure is {width:,.0f} × {height:,.0f} inches, at config: style.dpi: {dpi:g} too "
            f"large for an image ({pixels[0]:,} × {pixels[1]:,} pixels); show fewer texts, models "
            "or columns, or take a lower dpi"
        )


def _measure_ink(fig: Figure) -> Bbox:
    """The part of the figure that is saved, in inches: everything drawn, and a margin.

    Each format measures text a little differently. All formats get the box of a raster image at the
    saved resolution, so that a place in one is the same place in the others.
    """
    dpi = fig.dpi
    fig.set_dpi(plt.rcParams["savefig.dpi"])
    fig.draw_without_rendering()
    box = fig.get_tightbbox().padded(0.08)
    fig.set_dpi(dpi)
    return box


def describe_panels(fig: Figure, box: Bbox) -> dict:
    """Where the heatmaps are in the saved figure, and what they show, for the report's pointer.

    Call it after the last format has been written, which fixes the layout.

    box: the part of the figure that was saved, in inches.

    Returns {"values": whether values are included (up to `MOST_CELLS` cells), "panels": a list of
    {title, box: [left, top, right, bottom] in fractions of the saved figure from its top left
    corner, row_axis, column_axis, rows, columns: labels from the top and from the left, row_names,
    column_names: what stands there, if that is known, values: [rows, columns] with 4 significant
    digits, null if missing; or null for all}}.
    """
    panels = [(ax, *ax.panel) for ax in fig.axes if hasattr(ax, "panel")]
    with_values = sum(values.size for *_, values in panels) <= MOST_CELLS
    notes = []
    for ax, title, values in panels:
        # A cell is one unit of the axes; an inverted axis shows the rows from the other end.
        rows, columns = values.shape
        corners = ax.transData.transform([(0, 0), (columns, rows)]) / fig.dpi
        (x0, y0), (x1, y1) = corners
        down, across = (1 if y0 > y1 else -1), (1 if x0 < x1 else -1)
        shown = values.iloc[::down, ::across]
        named = {
            f"{side.removesuffix('s')}_names": list(names)[::step]
            for side, step in (("rows", down), ("columns", across))
            if (names := ax.panel_names.get(side)) is not None
        }
        left, right = ((x - box.x0) / box.width for x in sorted((x0, x1)))
        top, bottom = ((box.y1 - y) / box.height for y in sorted((y0, y1), reverse=True))
        notes.append(
            {
                "title": title,
                "box": [round(edge, 6) for edge in (left, top, right, bottom)],
                "row_axis": str(shown.index.name or "row"),
                "column_axis": str(shown.columns.name or "column"),
                "rows": [str(label) for label in shown.index],
                "columns": [str(label) for label in shown.columns],
                **named,
                "values": [[_round(value) for value in row] for row in shown.to_numpy()]
                if with_values
                else None,
            }
        )
    return {"values": with_values, "panels": notes}


def _round(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
