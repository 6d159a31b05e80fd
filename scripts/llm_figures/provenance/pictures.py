"""Make the pictures of the documents from the figures of a finished run.

python -m llm_figures.provenance.pictures results/{model} docs/figures
"""

import sys
from pathlib import Path

from PIL import Image

from llm_figures.core.atomic_files import whole_file

# Of the 300 dots per inch of a figure: enough for a screen, in a third of the bytes.
SCALE = 0.6


def reduce_figure(figure: Path) -> Image.Image:
    """A figure's PNG at `SCALE`, in full colour, so that colour bars have no bands."""
    with Image.open(figure) as image:
        size = [round(SCALE * side) for side in image.size]
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def main(results: Path, pictures: Path) -> None:
    """Make every picture of the folder `pictures` again. results: of the model that they show."""
    for picture in sorted(pictures.glob("*.png")):
        image = reduce_figure(results / "figures" / picture.name)
        with whole_file(picture) as partial:
            image.save(partial, format="png", optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
