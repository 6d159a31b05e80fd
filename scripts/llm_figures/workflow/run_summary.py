"""What a run says at its end: what was asked for and where it is, and what is missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
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
