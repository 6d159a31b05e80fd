"""docs/add-a-figure.md, followed to the letter, adds a sixth figure."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

# "Add to the end of `file`:" or "Write `file`:", and the block of code below it.
STEP = re.compile(r"(Add to the end of|Write)\s+`([\w/.]+)`:\n\n```python\n(.*?)```", re.DOTALL)


def test_the_page_adds_a_sixth_figure(project, root):
    code = project.own_code()
    page = (root / "docs" / "add-a-figure.md").read_text()
    steps = STEP.findall(page)
    assert len(steps) == page.count("```python") == 3
    for what, name, block in steps:
        before = "" if what == "Write" else (code / name).read_text() + "\n\n"
        (code / name).write_text(before + block)
    generate = [sys.executable, "-m", "llm_figures.workflow.generate_config", str(code)]
    subprocess.run(generate, cwd=code / "scripts", check=True, capture_output=True)
    assert "projection_means:" in (code / "config" / "config.yaml").read_text()
    assert "statistic" in (code / "docs" / "options.md").read_text()

    # its own target runs what is new and nothing else
    assert project.planned("projection_means") == {
        "score_projection_means": 1,
        "render_figure": 1,
        "projection_means": 1,
    }
    project.run("figures", "report", "paper", "bundle")
    scores = pd.read_parquet(project.results / "modules/scores.parquet")
    found = pd.read_parquet(project.results / "modules/projection_means.parquet")
    expected = scores.groupby("projection")["value"].mean()
    pd.testing.assert_series_equal(
        found.set_index("projection")["value"].sort_index(), expected.sort_index()
    )
    assert (project.results / "figures/projection_means.png").stat().st_size > 5000
    manifest = json.loads((project.results / "manifest.json").read_text())
    made_by = {name: file["made_by"] for name, file in manifest["files"].items()}
    assert made_by["modules/projection_means.parquet"] == "score_projection_means"
    assert made_by["figures/projection_means.svg"] == "render_figure"
    assert 'id="projection_means"' in (project.results / "report.html").read_text()
    largest = expected.idxmax(), f"{expected.max():.3f}"
    macros = (project.results / "paper/numbers.tex").read_text()
    assert f"\\newcommand*{{\\ProjectionMeansLargestProjection}}{{{largest[0]}}}" in macros
    assert f"\\newcommand*{{\\ProjectionMeansLargest}}{{{largest[1]}}}" in macros
    assert project.planned("paper") == {}
    (archive,) = project.results.glob("*.zip")
    assert project.planned() == {}

    # drawn from the archive, without a model
    project.run("figures", "--config", f"bundle={archive}")
    drawn = project.folder / "results/tiny.bundle/figures/projection_means.svg"
    assert drawn.read_bytes() == (project.results / "figures/projection_means.svg").read_bytes()

    # another option runs its rule and its drawing
    project.change(figures__projection_means={"statistic": "median"})
    assert project.planned("projection_means") == {
        "score_projection_means": 1,
        "render_figure": 1,
        "projection_means": 1,
    }
