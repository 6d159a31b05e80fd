"""`snakemake paper` on the tiny model: what it writes, what it runs again, what it refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from project import Project, refuse_network

pytestmark = pytest.mark.workflow

FIGURES = ["mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc", "probe_curves", "module_map",
           "module_map_output_rms"]  # fmt: skip
FILES = {"numbers.tex", "claims.tex", "probe.tex", "figures.tex", "numbers.json"}
MANIFEST = {"write_manifest": 1, "write_paper": 1, "paper": 1}


@pytest.fixture
def project(author, tmp_path):
    return author.copy(tmp_path / "copy")


def numbers_of(results):
    return json.loads((results / "paper" / "numbers.json").read_text())


def test_the_folder_is_whole(author):
    folder = author.results / "paper"
    assert {path.name for path in folder.iterdir()} == FILES | {"figures"}
    copies = {f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "csv")}
    assert {path.name for path in (folder / "figures").iterdir()} == copies
    for name in FIGURES:
        original = author.results / "figures" / f"{name}.pdf"
        assert (folder / "figures" / original.name).read_bytes() == original.read_bytes()
    assert author.planned("paper") == {}


def test_a_csv_holds_what_its_figure_shows(author):
    """The values behind the heatmaps, as the drawing itself noted them."""
    for name, row, column, value in (
        ("probe_auc", "layer", "token", "mean"),
        ("module_map", "layer", "projection", "value"),
    ):
        shown = pd.read_csv(author.results / "paper" / "figures" / f"{name}.csv")
        assert len(shown) == len(shown.drop_duplicates([row, column]))
        table = shown.astype({row: str, column: str}).pivot(index=row, columns=column, values=value)
        panels = json.loads((author.results / "figures" / f"{name}.panels.json").read_text())
        (panel,) = panels["panels"]
        drawn = np.array(panel["values"], dtype=float)
        np.testing.assert_allclose(table.loc[panel["rows"], panel["columns"]], drawn, rtol=5e-4)
    cells = pd.read_parquet(author.results / "attention/scale_qkv.parquet")
    read = pd.read_csv(author.results / "paper/figures/scale_qkv.csv", keep_default_na=False)
    assert (read["weight"].to_numpy() == cells["weight"].to_numpy()).all()
    assert read["key_token"].tolist() == cells["key_token"].tolist()


def test_every_number_is_found_where_its_json_says(author):
    numbers = numbers_of(author.results)
    tex = (author.results / "paper" / "numbers.tex").read_text()
    checked = 0
    for name, number in numbers.items():
        assert f"\\newcommand*{{\\{name}}}{{" in tex
        assert number["missing"] is (number["value"] is None)
        file, _, key = number["source"].partition(": ")
        if number["column"] is None or number["missing"]:
            continue
        if file == "manifest.json":
            place = json.loads((author.results / file).read_text())
            for part in key.split("."):
                place = place[part]
            assert place[number["column"]] == number["value"], name
        else:
            rows = pd.read_parquet(author.results / file)
            for column, value in number["row"].items():
                rows = rows[rows[column] == value]
            assert rows[number["column"]].unique().tolist() == [number["value"]], name
        checked += 1
    assert checked > 300
    answers = pd.read_parquet(author.results / "forward/answers.parquet")
    valid = answers[answers["valid"]]
    assert numbers["RunAnswersRight"]["value"] == valid["correct"].sum()
    assert numbers["RunAnswersJudged"]["value"] == len(valid)


def test_an_edited_caption_or_colour_runs_what_it_changes(project):
    code = project.own_code()
    path = code / "scripts/llm_figures/probe/curves_figure.py"
    text = path.read_text()
    path.write_text(text.replace("Dotted: the", "In dots: the"))
    one = {"render_figure": 1, "copy_figure": 1, **MANIFEST}
    assert project.planned("paper") == one
    path.write_text(text)
    assert project.planned("paper") == {}
    project.change(figures__probe_auc__palette="Greens")
    assert project.planned("paper") == one
    project.change(figures__probe_auc__palette="Blues", paper__prefix="Tiny")
    assert project.planned("paper") == MANIFEST
    names = [*numbers_of(project.results)]
    project.run("paper")
    assert [*numbers_of(project.results)] == [f"Tiny{name}" for name in names]
    floats = (project.results / "paper/figures.tex").read_text()
    assert r"\label{fig:Tiny:probe_auc}" in floats
    assert r"\TinyProbeAucNestedScore{}" in floats


def test_an_archive_gives_the_same_folder_but_for_its_answers(author, tmp_path):
    shutil.copy(author.results / "tiny.bundle.zip", tmp_path)
    reader = Project(tmp_path, author.root, {"bundle": "tiny.bundle.zip"})
    reader.run("paper", **refuse_network(tmp_path / "blocked"))
    drawn = tmp_path / "results" / "tiny.bundle"
    for name in ("claims.tex", "probe.tex", "figures.tex"):
        assert (drawn / "paper" / name).read_bytes() == (
            author.results / "paper" / name
        ).read_bytes()
    first, second = map(numbers_of, (author.results, drawn))
    assert [*first] == [*second]
    different = {name for name in first if first[name] != second[name]}
    of_answers = {"RunQuestions", "RunAnswersJudged", "RunAnswersRight", "RunAnswersRightShare"}
    assert different == of_answers
    assert all(second[name]["missing"] for name in of_answers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper__figures": ["probe_auk"]}, "config: paper.figures: 'probe_auk' is not made; ther"),
        ({"paper__figures": ["module_map_gguf_error"]}, "config: paper.figures: 'module_map_gguf"),
        ({"paper__prefix": "A1"}, "config: paper.prefix: 'A1'; allowed: letters, or a table"),
        ({"models": ["tiny", "smollm2-135m"]}, "config: paper.prefix: several models need diff"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(project, changes, message):
    project.change(**changes)
    code, output = project.run("paper", "--dry-run", check=False)
    assert code == 1
    assert sum(line.startswith(message) for line in output.splitlines()) == 1, output
    assert "Traceback" not in output
