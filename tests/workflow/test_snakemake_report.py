"""Snakemake's own report: figures, captions, claims and tables in their categories."""

import json
import re

import pytest

from project import FIGURES

pytestmark = pytest.mark.workflow


def test_snakemakes_report_shows_figures_claims_and_tables(project):
    project.run("--report", "report.html", "figures", "claims")
    page = (project.folder / "report.html").read_text()
    categories = json.loads(re.search(r"var categories = (\{.*\});?$", page, re.MULTILINE)[1])
    start = "results/tiny/"
    figures = [
        f"{start}figures/{figure}.{kind}"
        for figure in (*FIGURES, "probe_curves")
        for kind in ("svg", "caption.txt")
    ]
    assert sorted(categories["Figures"]["tiny"]) == sorted(figures)
    assert categories["Claims"]["tiny"] == [f"{start}claims.md"]
    assert categories["Answers"]["tiny"] == [f"{start}forward/answers.md"]
    # what is written below each
    assert "drawn from results/tiny/attention/mean_qkv.parquet" in page
    assert "with its statistic, threshold, value and verdict" in page
