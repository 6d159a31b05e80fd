"""docs/notebook.ipynb, executed in a kernel of its own.

python tests/notebook.py results/smollm2-135m    stores the outputs of that run in the notebook
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "notebook.ipynb"
NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?"


def execute(results: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run. folder: empty, where it is executed."""
    (folder / "docs").mkdir()
    (folder / "results").mkdir()
    (folder / "results" / "smollm2-135m").symlink_to(results.resolve())
    notebook = nbformat.read(PATH, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": folder / "docs"}},
    )
    kept = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    client.execute(env=kept | {"PYTHONPATH": str(ROOT / "scripts")})
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def list_outputs(notebook: nbformat.NotebookNode) -> list[list[tuple[str, str]]]:
    """(kind, content) of the outputs of every cell of code: text, and PNG in base64."""
    data = [
        [output.get("data") or {"text/plain": output.get("text")} for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    kinds = ("text/plain", "image/png")
    return [
        [(kind, output[kind]) for output in cell for kind in kinds if kind in output]
        for cell in data
    ]


def split_numbers(text: str) -> tuple[list[str], list[float]]:
    """The words of a text between its numbers, and the numbers."""
    words = [" ".join(part.split()) for part in re.split(NUMBER, text)]
    return words, [float(number) for number in re.findall(NUMBER, text)]


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        nbformat.write(execute(Path(sys.argv[1]), Path(temporary)), PATH)
