"""One method, measured in a process of its own."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
SEED = 0


def run_apart(task: dict) -> dict:
    """Run one method in a process of its own: a row of costs. Its results stay in task["folder"].

    task: stage, method, folder, and the options of the command line.
    """
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    code = subprocess.run(
        [sys.executable, sys.argv[0], "run", json.dumps(task | {"started": time.time()})],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        check=False,
    ).returncode
    if code == -9:
        sys.exit(f"{task['stage']}, {task['method']}: killed; out of memory? lower --questions")
    if code:
        sys.exit(f"{task['stage']}, {task['method']}: failed, see above")
    cost = json.loads((folder / "cost.json").read_text())
    return {"benchmark": task["stage"], "method": task["method"]} | cost


def measured(task: dict, work: Callable, items: Sequence, few: Sequence, questions: int):
    """work(items), its cost written down.

    few: items that `work` runs on first, so that what the first call loads or starts (kernels,
    worker processes) counts as set-up.
    """
    work(few)
    setup, start = time.time() - task["started"], time.perf_counter()
    result = work(items)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    cost = {
        "seconds": seconds,
        "setup_seconds": setup,
        "peak_mb": peak / 1024 ** (2 if sys.platform == "darwin" else 1),
        "questions": questions,
    }
    Path(task["folder"], "cost.json").write_text(json.dumps(cost))
    return result


def results(model: str) -> Path:
    return ROOT / "results" / model


def state_files(model: str) -> list[Path]:
    return sorted(results(model).glob("forward/hidden_states/residual/*.parquet"))


def config() -> dict:
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def sample(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows, or all if there are fewer, in ascending order of question."""
    return frame.sample(min(count, len(frame)), random_state=SEED).sort_values("question_id")


def valid_answers(task: dict, count: int) -> pd.DataFrame:
    """`count` answers with a valid exact answer."""
    answers = pd.read_parquet(results(task["model"]) / "forward" / "answers.parquet")
    return sample(answers[answers["valid"]], count)
