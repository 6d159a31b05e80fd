"""Memory and time of the attention stages for long texts, beside the model.

    .venv/bin/python benchmarks/long_inputs.py --model smollm2-135m --tokens 512 2048 8192

Each stage runs in a process of its own, on one text of so many tokens. `weights` are the model's
parameters in memory, `peak` is the most that the process held, Python and all libraries included.
The goal: peak less weights stays under 1,024 MiB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("extract", "score", "claims")
MB = 2**20


def peak() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** (
        2 if sys.platform == "darwin" else 1
    )


def long_text(tokenizer, tokens: int) -> str:
    """English of exactly so many tokens."""
    words = (ROOT / "README.md").read_text(encoding="utf-8")
    ids = tokenizer(words)["input_ids"]
    while len(ids) < tokens:
        ids += ids
    low, high = 1, 40 * tokens  # characters; token counts rise with them
    text = tokenizer.decode(ids)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer(text[:middle])["input_ids"]) < tokens:
            low = middle + 1
        else:
            high = middle
    return text[:low]


def run(task: dict) -> dict:
    """One stage; see the module."""
    folder = Path(task["folder"])
    states, cells = folder / "states.parquet", folder / "cells.parquet"
    options = {
        **{"operation": "mean", "over": "features", "components": ["query", "key", "value"]},
        **{"scope": "layer", "stage": "after_rotary", "layer": "auto", "head": "mean"},
        **{"epsilon": [0.5], "input": 1, "bins": 256},
    }
    weights = 0.0
    if task["stage"] == "extract":
        import extract_attention_states as stage
        from llm_figures.models import load_model

        runtime = {"device": "cpu", "dtype": task["dtype"], "threads": task["threads"]}
        loaded = load_model(task["card"], **runtime)
        model, tokenizer = loaded
        text = long_text(tokenizer, task["tokens"])
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) / MB
        stage.load_model = lambda *_, **__: loaded  # what is measured comes after loading
        work = (stage.main, (task["card"], str(states), [text], runtime))
    elif task["stage"] == "score":
        import score_attention as stage

        work = (stage.main, (str(states), None, str(cells), "mean_qkv", options))
    else:
        import check_attention_claims as stage
        from llm_figures.config import check_claims

        claims = check_claims({"claims": {"files": []}}, ROOT / "workflow/schemas",
                              ROOT / "config/claims.yaml")  # fmt: skip
        about = [claim for claim in claims if claim["figure"] == "mean_qkv"]
        work = (
            stage.main,
            ("m", about, str(cells), str(states), None, str(folder / "claims.parquet"), options),
        )
    start = time.perf_counter()
    function, arguments = work
    function(*arguments)
    return {
        "tokens": task["tokens"],
        "stage": task["stage"],
        "weights": weights,
        "peak": peak(),
        "seconds": time.perf_counter() - start,
    }


def environment(threads: int) -> dict[str, str]:
    """That of a job of so many threads; Snakemake sets these, too."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return os.environ | {"PYTHONPATH": str(ROOT / "scripts")} | dict.fromkeys(limits, str(threads))


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        print(json.dumps(run(json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a folder of results/")
    parser.add_argument("--card", help="a model.json elsewhere")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    card = asked.card or str(ROOT / "results" / asked.model / "model.json")
    print("| Tokens | Stage | Weights, MiB | Peak, MiB | Peak − weights, MiB | Seconds |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |", flush=True)
    for tokens in asked.tokens:
        with tempfile.TemporaryDirectory() as folder:
            for stage in asked.stages:
                task = {"stage": stage, "folder": folder, "card": card, "tokens": tokens}
                task |= {"dtype": asked.dtype, "threads": asked.threads}
                done = subprocess.run(
                    [sys.executable, __file__, "run", json.dumps(task)],
                    env=environment(asked.threads),
                    stdout=subprocess.PIPE,
                    check=True,
                )
                row = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"| {tokens:,} | {stage} | {row['weights']:,.0f} | {row['peak']:,.0f} | "
                    f"{row['peak'] - row['weights']:,.0f} | {row['seconds']:,.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
