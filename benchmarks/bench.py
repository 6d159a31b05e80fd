"""How fast the pipeline is beside its peers, on the same work: `make bench`.

    .venv/bin/python benchmarks/bench.py                  every work, three runs of every method
    .venv/bin/python benchmarks/bench.py states attention*   some works
    .venv/bin/python benchmarks/bench.py --write             the tables and the picture, too

after `snakemake figures`. README.md beside this file says what is measured and what was found.
"""

import argparse
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import attention
import growth
import large
import limit
import modules
import pandas as pd
import pipeline
import probing
import questions
from apart import (
    ROOT,
    StoppedError,
    call_apart,
    call_here,
    cores,
    gpus,
    machine,
    run_alone,
    run_here,
)
from tables import report, write_tables
from works import DisagreementError, Work

COSTS = Path(__file__).with_name("costs.parquet")
EVERY: tuple[Work, ...] = tuple(
    work
    for module in (limit, attention, questions, probing, modules, growth, pipeline, large)
    for work in module.WORKS
)


def main() -> None:
    options = arguments()
    works = [
        work
        for work in EVERY
        if any(_is_meant(work, name) for name in options.works) and work.shown(options.small)
    ]
    if not works:
        sys.exit(f"no work is named so; there is: {'; '.join(work.name for work in EVERY)}")
    check_results(options.results)
    print(machine(), flush=True)
    if not (gpus() or options.small):
        for work in works:
            if work.setting.device == "cuda":
                print(f"{work.name}: left out, there is no GPU here", flush=True)
        works = [work for work in works if work.setting.device != "cuda"]
    if not works:
        sys.exit("nothing is left to be measured")
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for work in works:
            try:
                costs, words = measure(work, options, Path(folder))
            except (DisagreementError, StoppedError) as error:
                sys.exit(f"{work.name}: {error}")
            found.append(costs.assign(agreement=words, machine=machine()))
            if options.write:  # as soon as it is known: a run of all takes hours
                keep(found[-1])
                write_tables(EVERY, pd.read_parquet(COSTS))
    costs = pd.concat(found, ignore_index=True)
    if options.output:
        costs.to_parquet(options.output, index=False)
    print(f"\n{report(works, costs)}")


def _is_meant(work: Work, name: str) -> bool:
    return work.name == name or (not work.named_only and fnmatch(work.name, name))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("works", nargs="*", default=["*"], help="patterns of works' names")
    parser.add_argument("--repeats", type=int, default=3, help="runs of every method")
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "results" / "smollm2-135m",
        help="folder of the model's results",
    )
    parser.add_argument("--output", type=Path, help="Parquet file for the cost of every run")
    parser.add_argument(
        "--write", action="store_true", help="put costs, tables and picture beside this file"
    )
    parser.add_argument("--small", action="store_true", help="little work, to see that all works")
    parser.add_argument(
        "--here", action="store_true", help="all in this process: quicker, and says nothing of time"
    )
    parser.add_argument("--without", nargs="*", default=[], help="peers' environments to leave out")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats starts at 1")
    return options


def check_results(folder: Path) -> None:
    for needed in ("manifest.json", "model.json", "forward/answers.parquet"):
        if not (folder / needed).is_file():
            sys.exit(
                f"{folder / needed} is missing: run `snakemake figures` first, or name another "
                "model's folder by --results"
            )


def measure(work: Work, options: argparse.Namespace, folder: Path) -> tuple[pd.DataFrame, str]:
    """A row of costs for every run of a work's methods, and how far these agree.

    Raises:
        DisagreementError, StoppedError
    """
    methods = [m for m in work.shown(options.small) if m.environment not in options.without]
    setting = work.setting
    place = {"device": "cpu" if options.small else setting.device, "dtype": setting.dtype}
    place["model_info"] = str(options.results.resolve() / "model.json")
    if setting.made_up:
        place["model_info"] = str(made_up(place, options, folder / "made up"))
    folders = {method.name: folder / work.name / str(n) for n, method in enumerate(methods)}
    rows, words = [], ""
    for repeat in range(options.repeats):
        for method in methods:
            print(f"{work.name}: {method.name}, {repeat + 1} of {options.repeats}", flush=True)
            task = {
                "work": work.name,
                "method": method.name,
                "function": method.function,
                "folder": str(folders[method.name]),
                "folders": {name: str(other) for name, other in folders.items()},
                "results": str(options.results.resolve()),
                "cores": cores(),
                **place,
                **work.parts(method, options.small),
            }
            run = run_here if options.here else run_alone
            row = run(task, method.environment)
            print(f"  {row['seconds']:.2f} s, {row['peak_mb']:,.0f} MiB", flush=True)
            rows.append({"work": work.name, "method": method.name, "repeat": repeat} | row)
        if repeat == 0 and work.agree:
            words = work.agree(folders)
            print(f"  {words}", flush=True)
    return pd.DataFrame(rows), words


def made_up(place: dict, options: argparse.Namespace, folder: Path) -> Path:
    """The model info of the model with random weights, which is made when it is first asked for."""
    model_info = folder / "model.json"
    if not model_info.is_file():
        print("making a model with random weights", flush=True)
        call = call_here if options.here else call_apart
        task = {"work": "model", "method": "random weights", "function": "large_model:make"}
        results = str(options.results.resolve())
        call(task | place | {"folder": str(folder), "results": results, "small": options.small})
    return model_info


def keep(costs: pd.DataFrame) -> None:
    """Put a work's costs into the file, in place of what it had of that work."""
    if COSTS.is_file():
        known = pd.read_parquet(COSTS)
        costs = pd.concat([known[~known["work"].isin(costs["work"])], costs], ignore_index=True)
    costs.to_parquet(COSTS, index=False)


if __name__ == "__main__":
    main()
