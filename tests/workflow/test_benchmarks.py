"""Every benchmark on a tiny model. Nothing is timed; what is seen is that the methods agree."""

import os
import subprocess
import sys

import pandas as pd
import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

PEERS = ("nnsight", "transformer-lens")


def bench(root, made, *arguments, small=True, environment=None):
    done = subprocess.run(
        [
            *(sys.executable, root / "benchmarks" / "bench.py", *arguments),
            *(["--small"] if small else []),
            *("--repeats", "1", "--results", made.results, "--without", *PEERS),
        ],
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_every_work_runs_and_its_methods_agree(root, made, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    from bench import EVERY

    path = tmp_path / "costs.parquet"
    code, output = bench(root, made, "--here", "--output", path)
    assert code == 0, output
    costs = pd.read_parquet(path)
    expected = {
        (work.name, method.name)
        for work in EVERY
        for method in work.shown(small=True)
        if method.environment not in PEERS
    }
    assert set(zip(costs["work"], costs["method"], strict=True)) == expected
    assert "time grows as size^" in output
    assert "### Share of the limit" in output
    assert (costs["seconds"] > 0).all()
    assert (costs["peak_mb"] > 0).all()
    compared = {work.name for work in EVERY if work.agree and work.shown(small=True)}
    assert (costs.loc[costs["work"].isin(compared), "agreement"].str.len() > 0).all()


def test_a_method_is_measured_in_a_process_of_its_own(root, made, tmp_path):
    path = tmp_path / "costs.parquet"
    code, output = bench(
        root, made, "matrix products", "module map, quantization", "--output", path
    )
    assert code == 0, output
    costs = pd.read_parquet(path)
    assert costs["work"].value_counts().to_dict() == {
        "matrix products": 2,
        "module map, quantization": 2,
    }
    assert (costs["setup_seconds"] > 0.5).all()  # the imports
    products = costs.set_index("work").loc["matrix products"]
    assert (products["operations"] == 2 * 4 * 64**3).all()
    assert products["machine"].iloc[0] in output


def test_a_name_that_no_work_has_and_a_run_that_is_not_there_are_named(root, made, tmp_path):
    code, output = bench(root, made, "speed")
    assert code == 1
    assert "no work is named so; there is: matrix products; " in output
    code, output = bench(root, made, "states, 7B*", small=False, environment={"PATH": ""})
    assert code == 1
    assert "states, 7B on a GPU: left out, there is no GPU here\nnothing is left" in output
    made = type(made)(tmp_path, root, {})
    code, output = bench(root, made, "generation")
    assert code == 1
    assert "manifest.json is missing: run `snakemake figures` first" in output
