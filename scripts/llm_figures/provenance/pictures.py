"""Make the pictures of the documents from the figures of a finished run.

python -m llm_figures.provenance.pictures results/{model} docs/figures
"""

import io
import sys
from pathlib import Path

from PIL import Image

from llm_figures.core.atomic_files import whole_file

# Of the 300 dots per inch of a figure: enough for a screen, in a third of the bytes. The next one
# where a picture has too many bytes for a page.
SCALES = (0.6, 0.5, 0.4)
BYTES = 400_000


def reduce_figure(figure: Path, scale: float = SCALES[0]) -> Image.Image:
    """A figure's PNG, smaller, in full colour, so that colour bars have no bands."""
    with Image.open(figure) as image:
        size = [round(scale * side) for side in image.size]
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def main(results: Path, pictures: Path) -> None:
    """Make every picture of the folder `pictures` again. results: of the model that they show."""
    for picture in sorted(pictures.glob("*.png")):
        for scale in SCALES:
            written = io.BytesIO()
            image = reduce_figure(results / "figures" / picture.name, scale)
            image.save(written, format="png", optimize=True)
            if len(written.getvalue()) < BYTES:
                break
        with whole_file(picture) as partial:
            partial.write_bytes(written.getvalue())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
