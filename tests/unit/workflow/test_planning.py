"""What Snakemake's dry run prints, read back."""

import subprocess
from types import SimpleNamespace

import pytest

from llm_figures.core.errors import UserError
from llm_figures.workflow.planning import _size, _time, dry_run, jobs_of

OUTPUT = """
Building DAG of jobs...
Job stats:
job                 count
----------------  -------
generate_answers        1
figures                 1

[Sat Nov 21 16:20:22 2026]
rule generate_answers:
    input: results/a/model.json, results/a/forward/questions.parquet
    output: results/a/forward/generations/0-of-1.parquet
    jobid: 13
    reason: Missing output files: results/a/x; Params have changed: y
    wildcards: model=a, shard=0, shards=1
    threads: 8
    resources: tmpdir=/tmp, runtime=10, mem_mb=2400, mem=2.4 GB, gpu=2
[Sat Nov 21 16:20:22 2026]
localrule judge_answers:
    output: results/a/forward/answers.parquet
    wildcards: model=a
    resources: tmpdir=/tmp, mem_mb=900

[Sat Nov 21 16:20:22 2026]
rule figures:
    input: results/a/figures/x.pdf
    jobid: 0
"""


def test_the_jobs_of_a_dry_run():
    generate, judge, figures = jobs_of(OUTPUT)
    assert (generate.rule, generate.threads) == ("generate_answers", 8)
    assert generate.wildcards == {"model": "a", "shard": "0", "shards": "1"}
    assert (generate.resources["mem_mb"], generate.resources["gpu"]) == ("2400", "2")
    assert (judge.rule, judge.threads, judge.wildcards) == ("judge_answers", 1, {"model": "a"})
    assert figures.rule == "figures"
    assert list(jobs_of("Nothing to be done (all requested files are present).")) == []


def test_a_dry_run_that_fails_is_one_line(monkeypatch):
    output = "Building DAG of jobs...\nMissingInputException in rule x:\n  no such\n  file\n"
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout=output)
    )
    with pytest.raises(UserError, match="fails: MissingInputException in rule x: no such file"):
        dry_run([], "figures")


def test_sizes_and_times_are_rounded_up():
    assert [_size(mb) for mb in (0.2, 999, 1000, 141_000)] == [
        "1 MB",
        "999 MB",
        "1.0 GB",
        "141.0 GB",
    ]
    assert [_time(m) for m in (0.2, 1.01, 119.5, 120)] == ["12 s", "2 min", "120 min", "2.0 h"]
