"""The probe's stages beside the obvious loop: how much time and memory each takes.

    .venv/bin/python benchmarks/probe.py

after `snakemake probe_auc`. Every method runs in a process of its own, the methods of a stage in
turn; medians over the repeats are shown, and only once the methods have been found to agree.
README.md beside this file says what each line means.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

# No torch here: on Linux a process's peak memory starts at that of the process that started it, so
# this one must stay smaller than those it measures.
import numpy as np
import pandas as pd
from measuring import CORES, results, run_apart, state_files

README = Path(__file__).with_name("README.md")
MARKERS = ("<!-- probe -->", "<!-- /probe -->")
# Where the function that measures a stage is: one of the stage's own name.
MODULES = {
    "generation": "forward_methods",
    "extraction": "forward_methods",
    "probes": "fitting_methods",
    "memory": "forward_methods",
}
DEFAULT, CONVERGED = "sklearn default", "sklearn standardised"
RUNS = ("1 thread", "all threads", "joblib")
METHODS = {
    "generation": ["loop", "plain batches", "ours"],
    "extraction": ["loop", "plain batches", "ours"],
    "probes": [*(f"{method} ({run})" for method in (DEFAULT, CONVERGED) for run in RUNS), "ours"],
}
COLUMNS = [
    "benchmark", "method", "repeat", "seconds", "setup_seconds", "peak_mb", "questions",
    "other_load",
]  # fmt: skip
# How far the methods may be apart before the comparison is called off.
MOST_DIFFERING_ANSWERS = 0.01  # of all answers
LARGEST_STATE_ERROR = 1e-3  # of the layer's largest value
LARGEST_AUC_ERROR = 0.005  # of ours from sklearn's converged fit, identical inputs scored equal
LARGEST_LOAD = 0.15  # of other programs, in cores


def main() -> None:
    options = arguments()
    check_results(options)
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="probe-benchmark-") as folder:
        for stage in options.only:
            methods = METHODS.get(stage) or [f"{size} questions" for size in options.memory_sizes]
            folders = {method: Path(folder, stage, method) for method in methods}
            for repeat in range(options.repeats):
                for method in methods:
                    print(f"{stage}: {method}, run {repeat + 1} of {options.repeats}", flush=True)
                    task = {"stage": stage, "method": method, "folder": str(folders[method])}
                    rows.append(run_apart(task | vars(options)) | {"repeat": repeat})
            if stage in AGREEMENTS:
                notes += AGREEMENTS[stage](folders)
    costs = pd.DataFrame(rows)[COLUMNS]
    if options.output:
        costs.to_parquet(options.output, index=False)
    report = "\n\n".join([heading(options), cost_table(costs), *notes])
    print(f"\n{report}")
    if (load := costs["other_load"].max()) > LARGEST_LOAD:
        sys.exit(
            f"\nother programs kept {load:.1f} cores busy during a run, which slows some methods "
            "more than others: these times are void; run again with nothing beside"
        )
    if options.write:
        write_report(report)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=544, help="a seeded sample of so many")
    parser.add_argument("--model", default="smollm2-135m", help="whose results are used")
    stages = [*METHODS, "memory"]
    parser.add_argument("--only", nargs="+", choices=stages, default=stages, metavar="STAGE")
    parser.add_argument("--repeats", type=int, default=1, help="runs of every method")
    parser.add_argument("--layers", type=int, default=4, help="how many the probes are fitted in")
    parser.add_argument("--memory-sizes", type=int, nargs=2, default=[256, 2048], metavar="COUNT")
    parser.add_argument("--output", help="Parquet file for the cost of every run")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


def check_results(options: argparse.Namespace) -> None:
    for needed in ("model.json", "forward/questions.parquet", "forward/answers.parquet"):
        if not (results(options.model) / needed).is_file():
            sys.exit(f"{needed} of {options.model} is missing: run `snakemake probe_auc` first")
    if "probes" in options.only and not state_files(options.model):
        sys.exit(f"no residual states of {options.model}: run `snakemake probe_auc` first")
    if min(options.questions, options.repeats, options.layers, *options.memory_sizes) < 1:
        sys.exit("numbers of questions, repeats and layers start at 1")


def same_answers(folders: dict[str, Path]) -> list[str]:
    texts = {
        method: json.loads((folder / "texts.json").read_text())
        for method, folder in folders.items()
    }
    ours, differing = texts.pop("ours"), []
    for method, theirs in texts.items():
        count = sum(left != right for left, right in zip(ours, theirs, strict=True))
        if count > MOST_DIFFERING_ANSWERS * len(ours):
            sys.exit(f"generation: {count} of {len(ours)} answers differ between {method} and ours")
        differing.append(f"{count} from the {method}")
    return [f"Generation: of {len(ours)} answers, ours differ in {' and '.join(differing)}."]


def same_states(folders: dict[str, Path]) -> list[str]:
    states = {method: np.load(folder / "states.npy") for method, folder in folders.items()}
    ours, errors = states.pop("ours"), []
    for method, theirs in states.items():
        error = np.abs(ours - theirs).max(axis=(0, 2)) / np.abs(theirs).max(axis=(0, 2))
        if not error.max() <= LARGEST_STATE_ERROR:
            sys.exit(
                f"extraction: {method} and ours differ by {error.max():.1e} of layer "
                f"{int(error.argmax())}'s largest value"
            )
        errors.append(f"{error.max():.0e} from the {method}")
    return [
        f"Extraction: our states differ by at most {' and '.join(errors)}, in units of the largest "
        f"value in the layer (`exact_answer_last` of {len(ours)} questions, every layer)."
    ]


def same_auc(folders: dict[str, Path]) -> list[str]:
    found = {method: pd.read_parquet(folder / "auc.parquet") for method, folder in folders.items()}
    # However they are run, sklearn's fits give the same scores.
    found = {
        method: found.get(method, found.get(f"{method} (joblib)"))
        for method in (CONVERGED, "ours", DEFAULT)
    }
    kinds = {"auc": "As they are", "auc_equal": "Identical inputs equal", "auc_rounded": "Rounded"}
    reference, rows = found[CONVERGED], []
    for method, own in found.items():
        row = {
            "Method": method,
            "Not converged": f"{own['unconverged'].mean():.0%}",
            "Mean AUC": f"{own['auc_equal'].mean():.4f}",
        }
        for column, name in kinds.items():
            apart = (own[column] - reference[column]).abs()
            row[name] = f"{apart.mean():.5f} ({apart.max():.5f})"
        rows.append(row)
    apart = (found["ours"]["auc_equal"] - reference["auc_equal"]).abs().max()
    if not apart <= LARGEST_AUC_ERROR:
        sys.exit(f"probes: our AUC of a cell is {apart:.4f} from that of sklearn's converged fit")
    layers = ", ".join(map(str, reference["layer"].unique()))
    return [
        f"Probes: {len(reference)} cells (layers {layers}; {reference['token'].nunique()} tokens), "
        f"5 folds. The last columns say how far a cell's AUC is from that of `{CONVERGED}`, mean "
        "(largest) over the cells: with scores as they are, in which answers with the same hidden "
        "states are ranked by rounding errors; with such answers' scores made equal, as ours are; "
        "and with scores rounded to 4 decimals.",
        markdown(rows),
    ]


def cost_table(costs: pd.DataFrame) -> str:
    medians = costs.groupby(["benchmark", "method"], sort=False, as_index=False).median()
    rows = []
    for stage, found in medians.groupby("benchmark", sort=False):
        # Of the ways to run the same fits the fastest is shown.
        fits = found["method"].str.replace(r" \(.*", "", regex=True)
        found = found.loc[found.groupby(fits, sort=False)["seconds"].idxmin()]
        # The last method is ours; where all are, the smaller size is what others are compared to.
        ours = found.iloc[-1 if stage in METHODS else 0]
        for row in found.itertuples():
            # What joblib's processes hold is not counted, so nothing is said of the probes' memory.
            memory = ("–", "–")
            if stage != "probes":
                memory = (f"{row.peak_mb:,.0f}", f"{row.peak_mb / ours.peak_mb:.2f}")
            rows.append(
                {
                    "Stage": stage,
                    "Method": row.method if stage in METHODS else "ours",
                    "Questions": f"{row.questions:,.0f}",
                    "Seconds": f"{row.seconds:.1f}",
                    "× ours": f"{row.seconds / ours.seconds:.2f}",
                    "Set-up, s": f"{row.setup_seconds:.1f}",
                    "Peak, MiB": memory[0],
                    "× our peak": memory[1],
                }
            )
    return markdown(rows)


def heading(options: argparse.Namespace) -> str:
    runs = "one run" if options.repeats == 1 else f"medians of {options.repeats} runs"
    return (
        f"{options.model}, {CORES} cores, {runs}; torch {version('torch')}, transformers "
        f"{version('transformers')}, scikit-learn {version('scikit-learn')}."
    )


def markdown(rows: list[dict[str, str]]) -> str:
    numbers = {
        name: all(row[name][0].isdigit() or row[name] == "–" for row in rows) for name in rows[0]
    }
    lines = [list(rows[0]), ["---:" if numbers[name] else "---" for name in rows[0]]]
    lines += [list(row.values()) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(report: str) -> None:
    text = README.read_text()
    if any(text.count(marker) != 1 for marker in MARKERS):
        sys.exit(f"{README.name} needs the markers {' and '.join(MARKERS)} once each")
    before, _, rest = text.partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    README.write_text(f"{before}{MARKERS[0]}\n\n{report}\n\n{MARKERS[1]}{after}")


# How the methods' results are compared, after which runs: {method: folder} in, paragraphs out.
AGREEMENTS: dict[str, Callable[[dict[str, Path]], list[str]]] = {
    "generation": same_answers,
    "extraction": same_states,
    "probes": same_auc,
}


def run_here(task: dict) -> None:
    """The measured process: one method of one stage."""
    from llm_figures.errors import UserError

    try:
        getattr(import_module(MODULES[task["stage"]]), task["stage"])(task)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run_here(json.loads(sys.argv[2]))
    else:
        main()
