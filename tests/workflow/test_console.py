"""What a run prints, and what only Snakemake's log has."""

import re

import pandas as pd
import pytest

from llm_figures.claims.figures import FIGURES

pytestmark = pytest.mark.workflow

# Of Snakemake's own lines.
NOISE = ("localrule", "reason:", "resources:", "Host:", "Job stats", "Select jobs", "steps (")


def snakemake_log(project):
    """The log of the last run."""
    *_, last = sorted((project.folder / ".snakemake/log").glob("*.log"))
    return last.relative_to(project.folder).as_posix(), last.read_text()


def end_of(output):
    """The block at the end, without the name of the log."""
    block = output.rpartition("\n\n")[2].splitlines()
    return [line for line in block if not line.startswith("What Snakemake did")]


def test_a_run_says_what_it_made_and_leaves_the_rest_to_the_log(project):
    project.change(figures__module_map__palette="magma")
    _, output = project.run("--dry-run", "figures")
    assert "Params have changed since last execution" in output
    assert "magma" in re.search(r"rule render_figure:\n(?: .*\n)*? +reason: (.*)", output)[1]

    _, output = project.run("figures")
    assert "2 jobs to run, about " in output
    assert "write_manifest: 59 files listed" in output
    assert [line for line in NOISE if line in output] == []
    path, logged = snakemake_log(project)
    assert [line for line in NOISE if line not in logged] == []
    assert "Input files updated by another job: results/tiny/figures/module_map" in logged
    assert f"What Snakemake did: {path}\n" in output
    made, *block = end_of(output)
    assert re.fullmatch(r"Made in \d.*:", made)
    others = "mean_qkv, mean_qkv_tokens, scale_qkv, probe_auc, probe_curves"
    pages = ["  results/tiny/forward/answers.md", "  results/tiny/claims.md"]
    there = ["There already:", f"  results/tiny/figures/  {others} (pdf, svg, png)", pages[0]]
    assert block == [
        "  results/tiny/figures/  module_map (pdf, svg, png)",
        "  results/tiny/manifest.json",
        *there,
        "Read first:",
        *pages,
    ]
    _, output = project.run("claims")
    tables = ["  results/tiny/claims.parquet", "  results/tiny/claims.md"]
    page = (project.results / "claims.md").read_text()
    claims, summary, head, *rest = end_of(output)
    assert claims == "Claims: tiny"
    assert summary.strip() in page.splitlines()
    assert head.split()[:2] == ["figure", "reproduced"]
    rows = [re.split(r" {2,}", line.strip()) for line in rest[: len(FIGURES)]]
    assert [f"| {' | '.join(row)} |" in page for row in rows] == [True] * len(FIGURES)
    assert rest[len(FIGURES) :] == ["There already:", *tables, "Read first:", tables[1]]


def test_options_of_the_users_say_what_is_printed(project):
    _, output = project.run("--forcerun", "score_modules", "--quiet", "rules", "--", "plan")
    assert "Job stats" in output
    assert "localrule" not in output
    _, output = project.run("--printshellcmds", "--verbose", "claims")
    assert "Building DAG of jobs" in output


def test_a_failed_job_shows_its_error_and_its_log_once(project):
    claims = pd.read_parquet(project.results / "claims.parquet")
    broken = claims[claims["verdict"] == "not reproduced"].iloc[0]
    project.change(claims__fail_on=[f"{broken['figure']}/{broken['claim']}"])
    code, output = project.run("claims", check=False)
    assert code == 1
    assert len(re.findall(r"^guard_claims: error: ", output, re.M)) == 1
    assert len(re.findall(r"^Error in rule guard_claims:", output, re.M)) == 1
    assert len(re.findall(r"^Logfile results/tiny/logs/guard_claims.log:", output, re.M)) == 1
    block = output.partition("\n\nThere already:")[2].splitlines()
    assert block[1:8] == [
        "  results/tiny/claims.parquet",
        "  results/tiny/claims.md",
        "Not made:",
        "  results/tiny/claims/guarded.txt",
        "Failed:",
        "  guard_claims  results/tiny/logs/guard_claims.log",
        "What was made stays; the same command goes on from there.",
    ]
