"""Find the rules that make given files, from Snakemake's own rule objects."""

from collections.abc import Iterable
from pathlib import Path

from snakemake.io import is_flagged
from snakemake.iocontainers import Wildcards


def find_jobs(files: Iterable[str], rules: Iterable) -> list[tuple]:
    """(rule, its wildcards) of every job that contributes to the files, whether they exist or not.

    A file that no rule makes is the user's own.

    rules: Snakemake's rules; of several that make a file the first counts.
    """
    waiting, jobs = list(files), {}
    while waiting:
        file = waiting.pop()
        maker = next((rule for rule in rules if rule.is_producer(file)), None)
        if maker is None:
            continue
        wildcards = Wildcards(fromdict=maker.get_wildcards(file))
        job = maker, tuple(sorted(wildcards.items()))
        if job not in jobs:
            jobs[job] = wildcards
            waiting += maker.expand_input(wildcards)[0]
    return [(rule, wildcards) for (rule, _), wildcards in jobs.items()]


def find_stages(files: Iterable[str], rules: Iterable, folder: Path) -> dict[str, list[str]]:
    """{rule: the files that it makes on the way to `files`}, relative to `folder`, those inside it.

    A rule is named after its benchmarks: in an imported module its own name may have a prefix.
    """
    stages: dict[str, list[str]] = {}
    for rule, wildcards in find_jobs(files, rules):
        outputs = [Path(file) for file in rule.expand_output(wildcards)[0]]
        own = [file.relative_to(folder).as_posix() for file in outputs if folder in file.parents]
        if own:
            _, _, name = str(rule.benchmark).partition("/benchmarks/")
            # up to the first wildcard
            name = Path(name.partition("{")[0]).parts[0].removesuffix(".tsv")
            stages.setdefault(name, []).extend(own)
    return {name: sorted(files) for name, files in sorted(stages.items())}


def find_passing_files(files: Iterable[str], rules: Iterable) -> list[str]:
    """The files of jobs on the way to `files` that are deleted once all that reads them is made."""
    return [
        str(file)
        for rule, wildcards in find_jobs(files, rules)
        for file, pattern in rule.expand_output(wildcards)[1].items()
        if is_flagged(pattern, "temp")
    ]


def find_lost_files(files: Iterable[str], rules: Iterable) -> list[str]:
    """The missing files of jobs on the way to `files` that left other files, which are still there.

    Snakemake makes a missing file again only where a target or a job asks for it. Files that are
    deleted on purpose are not lost.
    """
    lost = []
    for rule, wildcards in find_jobs(files, rules):
        outputs = [
            str(file)
            for file, pattern in rule.expand_output(wildcards)[1].items()
            if not is_flagged(pattern, "temp")
        ]
        missing = [file for file in outputs if not Path(file).exists()]
        lost += missing if len(missing) < len(outputs) else []
    return lost
