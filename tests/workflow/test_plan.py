"""`snakemake plan`: what would run and what it takes, without network, weights or files."""

import os
import re
import subprocess
import sys

import pytest
import yaml

import tiny

pytestmark = pytest.mark.workflow

OVERLAYS = {
    "mistral-7b-instruct": (32, 1, 4),
    "llama-3-8b-instruct": (32, 1, 4),
    "qwen2.5-7b": (28, 1, 4),
    "llama-3-70b-instruct": (80, 3, 8),
}


def snakemake(folder, root, *arguments):
    """Return code, output and errors of Snakemake in `folder`, cut off from every network."""
    nowhere = "http://127.0.0.1:9"
    command = [sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile", "--cores", "2"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=os.environ
        | dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere)
        | {"HF_HOME": str(folder / "hub"), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def made(folder):
    """Files of a run, without Snakemake's own."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = (".snakemake", "cache", "hub")
    return sorted(str(file) for file in files if file.parts[0] not in own)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_large_model_is_planned_on_a_machine_with_nothing(overlay, tmp_path, root):
    layers, gpus, probe_jobs = OVERLAYS[overlay]
    config = root / "config" / f"{overlay}.yaml"
    code, output, errors = snakemake(tmp_path, root, "plan", "--configfile", config)
    assert code == 0, errors
    assert made(tmp_path) == ["results/_models/logs/plan.log"]
    assert f"{overlay}: " in output
    assert f"{layers} layers" in output
    rows = {row[0]: row[1:] for line in output.splitlines() if (row := re.split(r"  +", line)[1:])}
    assert rows["score_probes"][:2] == [str(probe_jobs)] * 2
    assert rows["score_probes"][4] == "-"
    assert rows["generate_answers"][:2] == ["1", "1"]
    assert rows["generate_answers"][4] == str(gpus)
    # weights are fetched on the head node, once
    assert rows["prepare_model"][4] == "-"
    assert re.search(r"Total: (\d+) of \1 jobs to run", output)
    assert "GPU hours" in output
    assert "!" not in output


def test_only_what_is_not_made_is_to_run(tmp_path, root):
    tiny.save(tmp_path / "model")
    overlay = {
        "model": "tiny",
        "model_sources": {"tiny": {"source": "path", "path": "model"}},
        "dataset": {"limit": 40},
        "shards": 3,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))
    run = ("--configfile", "mine.yaml", "--config", "batch_size=7")
    code, _, errors = snakemake(tmp_path, root, "results/tiny/model.json", *run)
    assert code == 0, errors
    before = made(tmp_path)
    code, output, errors = snakemake(tmp_path, root, "plan", *run)
    assert code == 0, errors
    assert made(tmp_path) == sorted([*before, "results/_models/logs/plan.log"])
    assert re.search(r"prepare_model +1 +0 ", output)
    assert re.search(r"generate_answers +3 +3 ", output)
    assert "40 questions (dataset.limit) in 3 shard(s)" in output
    assert "results/tiny/model.json" in output
    to_run, every = map(int, re.search(r"Total: (\d+) of (\d+) jobs", output).groups())
    assert every == to_run + 1
    # the resources of the jobs are those that Snakemake would ask a cluster for
    _, jobs, _ = snakemake(tmp_path, root, "figures", "--dry-run", *run)
    assert jobs.count("mem_mb=") == to_run
    assert "gpu=" not in jobs
    # another estimate runs nothing again
    overlay["model_sources"]["tiny"]["shape"] = {
        **{"parameters": 10**10, "layers": 3, "hidden_size": 32, "heads": 4},
        **{"vocabulary": 384, "intermediate_size": 48},
    }
    overlay |= {"gpus": 2, "gpu_memory_gb": 40}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))
    _, jobs, _ = snakemake(tmp_path, root, "figures", "--dry-run", *run)
    assert jobs.count("mem_mb=") == to_run
    assert "gpu=2" in jobs
