"""What a run says at its end: what was asked for and where it is, and what is missing."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Literal

from llm_figures.core.formatting import format_duration

State = Literal["made", "there", "missing"]
# Kinds of a figure's files that are worth naming.
KINDS = (".pdf", ".svg", ".png")
LOOKED_AT = (*KINDS, ".md", ".html", ".tex")
LEFT = "Left as they are, from earlier results"
NAMED = 8  # failed jobs


def describe_end(
    files: Mapping[str, State],
    pages: Sequence[str],
    failed: Sequence[tuple[str, str]],
    success: bool,
    seconds: float,
    outdated: Sequence[str] = (),
) -> Iterator[str]:
    """Lines of the block at the end of a run; none where no file was asked for.

    files: those that the targets ask for. pages: to be read first. failed: (job, its log). seconds:
    that the run took. outdated: files of the same folders that were made from earlier results, of
    which figures and pages are named.
    """
    headings = {
        "made": f"Made in {format_duration(seconds)}:",
        "there": "There already:",
        "missing": "Not made:",
    }
    for state, heading in headings.items():
        own = [file for file, found in files.items() if found == state]
        if own:
            yield heading
            yield from (f"  {line}" for line in _list_files(own))
    if failed:
        yield "Failed:"
        yield from (f"  {job}{log and f'  {log}'}" for job, log in failed[:NAMED])
        if len(failed) > NAMED:
            yield f"  and {len(failed) - NAMED} more"
    if not success:
        if files:
            why = "" if failed else "Stopped. "
            yield f"{why}What was made stays; the same command goes on from there."
    elif files and pages:
        yield "Read first:"
        yield from (f"  {page}" for page in pages)
    if left := [file for file in outdated if file not in files and file.endswith(LOOKED_AT)]:
        yield f"{LEFT} (`snakemake figures report` brings up to date):"
        yield from (f"  {line}" for line in _list_files(left))


def describe_claims(pages: Iterable[str], asked: Collection[str]) -> Iterator[str]:
    """How many claims have each verdict, by figure, as the pages of claims begin.

    pages: the pages `claims.md` of the run's models. asked: files that the targets ask for; nothing
    is said of other pages.
    """
    for page in map(Path, pages):
        if str(page) not in asked or not page.is_file():
            continue
        head, *_ = page.read_text(encoding="utf-8").partition("\n\n## ")
        title, _, *parts = head.split("\n\n")
        yield title.removeprefix("# ")
        for part in parts:
            lines = _align(part) if part.startswith("|") else part.splitlines()
            yield from (f"  {line}" for line in lines)


def _align(table: str) -> Iterator[str]:
    """The lines of a Markdown table in columns: the first one on the left, numbers on the right."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    )
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for first, *cells in (head, *rows):
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *padded))


def _list_files(files: Iterable[str]) -> Iterator[str]:
    """A line for the figures of each folder, and one for each other file."""
    folders: dict[str, list[PurePath]] = {}
    for path in map(PurePath, files):
        folder = str(path.parent) if path.parent.name == "figures" else str(path)
        folders.setdefault(folder, []).append(path)
    for folder, paths in folders.items():
        if paths[0].parent.name != "figures":
            yield folder
            continue
        names = dict.fromkeys(path.name.partition(".")[0] for path in paths)
        kinds = [kind[1:] for kind in KINDS if any(path.suffix == kind for path in paths)]
        yield f"{folder}/  {', '.join(names)}" + (f" ({', '.join(kinds)})" if kinds else "")
