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
import psutil  # Snakemake brings it
import yaml

ROOT = Path(__file__).resolve().parents[1]
# The pipeline's rules take no more than eight.
CORES = min(8, len(psutil.Process().cpu_affinity()))
SEED = 0


def run_apart(task: dict) -> dict:
    """Run one method in a process of its own: a row of costs. Its results stay in task["folder"].

    other_load: how many of the cores it needed other programs kept busy meanwhile. Beside one busy
    program the small steps of a model can take ten times as long, so costs under load are void.

    task: stage, method, folder, and the options of the command line.
    """
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    start, others = time.time(), others_seconds()
    code = subprocess.run(
        [sys.executable, sys.argv[0], "run", json.dumps(task | {"started": start})],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        check=False,
    ).returncode
    if code == -9:
        sys.exit(f"{task['stage']}, {task['method']}: killed; out of memory? lower --questions")
    if code:
        sys.exit(f"{task['stage']}, {task['method']}: failed, see above")
    load = (others_seconds() - others) / (time.time() - start)
    cost = json.loads((folder / "cost.json").read_text())
    cost["other_load"] = max(0.0, load - (psutil.cpu_count() - CORES))
    return {"benchmark": task["stage"], "method": task["method"]} | cost


def others_seconds() -> float:
    """CPU seconds that this machine has spent on other programs than this one and those it ran."""
    spent = psutil.cpu_times()._asdict()
    # Linux counts a guest's time as user's, too.
    idle = sum(spent.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return sum(spent.values()) - idle - sum(os.times()[:4])


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
