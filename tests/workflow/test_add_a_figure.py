"""docs/add-a-figure.md, followed to the letter, adds a sixth figure."""

import json
import re
import subprocess
import sys
import zipfile

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

# "Add to the end of `file`:" or "Write `file`:", and the block of code below it.
STEP = re.compile(r"(Add to the end of|Write)\s+`([\w/.]+)`:\n\n```python\n(.*?)```", re.DOTALL)
# What the section on claims adds: a function of the figure's module, and a claim.
CLAIM = re.compile(r"## Claims\n.*?```python\n(.*?)```.*?```yaml\n(.*?)```", re.DOTALL)


def test_the_page_adds_a_sixth_figure(project, root):
    code = project.own_code()
    page = (root / "docs" / "add-a-figure.md").read_text()
    steps = STEP.findall(page)
    assert len(steps) == page.count("```python") - 1 == 3
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

    # outside the target `figures`, with a claim of its own
    function, claim = CLAIM.search(page).groups()
    module, options, claims = (
        code / name for name in (steps[1][1], steps[0][1], "config/claims.yaml")
    )
    module.write_text(f"{module.read_text()}\n\n{function}")
    claims.write_text(f"{claims.read_text()}\n{claim}")
    given = '"llm_figures.modules.projection_means"'
    options.write_text(
        options.read_text().replace(given, f"{given}, by_default=False, title='Means'")
    )
    assert "score_projection_means" not in project.planned("figures", "--forceall")
    project.run("projection_means", "report", "bundle")
    (verdict,) = pd.read_parquet(project.results / "claims/projection_means.parquet").to_dict(
        "records"
    )
    means = found.set_index("projection")["value"]
    mlp = means.index.str.startswith("mlp")
    assert verdict["value"] == pytest.approx(means[mlp].mean() - means[~mlp].mean())
    assert verdict["verdict"] == ("reproduced" if verdict["value"] > 0 else "not reproduced")
    assert "means-mlp" in (project.results / "claims/projection_means.md").read_text()
    assert "projection_means" not in set(
        pd.read_parquet(project.results / "claims.parquet")["figure"]
    )
    report = (project.results / "report.html").read_text()
    assert 'id="projection_means"' in report
    assert verdict["statement"] in report
    with zipfile.ZipFile(archive) as members:
        assert "claims/projection_means.parquet" in members.namelist()

    # another option runs its rule and its drawing
    project.change(figures__projection_means={"statistic": "median"})
    assert project.planned("projection_means") == {
        "score_projection_means": 1,
        "check_table_claims": 1,
        "render_figure": 1,
        "projection_means": 1,
    }
