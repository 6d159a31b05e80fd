"""The dry run of the plan, by Snakemake's own API."""

import pytest
from snakemake.settings.types import ConfigSettings, DAGSettings

from llm_figures.core.errors import UserError
from llm_figures.workflow.planning import dry_run

SNAKEFILE = """
import sys
if config.get("colour", "red") != "red":
    sys.exit("\\nconfig: colour: not red\\n")

rule figures:
    input: expand("{model}.answers", model=["a", "b"]), config.get("more", [])

rule judge_answers:
    input: "{model}.states"
    output: touch("{model}.answers")
    resources: mem_mb=900
    shell: "false"

rule extract_states:
    output: touch("{model}.states")
    threads: 8
    resources: mem_mb=lambda wildcards, attempt: 2000 * attempt, gpu=2
    shell: "false"
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """dry_run of a small Snakefile in a folder of its own, with a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def run(**config):
        settings = ConfigSettings(config=config)
        return dry_run("figures", tmp_path / "Snakefile", settings, DAGSettings(), cores=4)

    return run


def test_jobs_of_a_dry_run_come_in_the_order_of_the_flow(planned, tmp_path, capfd):
    (tmp_path / "a.states").touch()
    jobs = planned()
    assert [job.rule for job in jobs] == ["extract_states"] * 2 + ["judge_answers"] * 2
    states = {job.wildcards["model"]: job for job in jobs[:2]}
    assert states["b"].to_run
    assert not states["a"].to_run
    assert (states["b"].threads, states["b"].memory) == (4, 2_000_000_000)  # of four cores
    assert all(job.to_run and job.threads == 1 and job.memory == 9e8 for job in jobs[2:])
    # nothing is printed, made or locked
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {"Snakefile", "a.states", ".snakemake"}
    assert not list((tmp_path / ".snakemake").glob("log*/*"))
    assert not list((tmp_path / ".snakemake" / "locks").iterdir())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"colour": "blue"}, "fails: config: colour: not red$"),
        ({"more": "c.pdf"}, "fails: MissingInputException: Missing input files .* c.pdf"),
    ],
)
def test_a_dry_run_that_fails_is_one_line(planned, capfd, config, message):
    with pytest.raises(UserError, match=message) as error:
        planned(**config)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
