"""The module map of any metric and any family, run as a user runs it."""

import json
import re

import pandas as pd
import pytest

import tiny
from documented import find_differences
from llm_figures.claims.figures import FIGURES
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules.metrics import METRICS
from project import tiny_project

pytestmark = pytest.mark.workflow

WANTED = [metric for metric in METRICS if metric not in ("ablation_kl", "gguf_error")]


def test_every_metric_is_a_figure_and_nothing_is_measured_twice(author, tmp_path):
    project = author.copy(tmp_path)
    tiny.save(project.folder / "other-model", seed=1)
    sources = project.overlay["model_sources"]
    sources["other"] = {"source": "path", "path": "other-model"}
    project.change(figures__module_map__metric=WANTED, figures__module_map__compare_with="other")
    jobs = project.planned()
    assert jobs["prepare_model"] == jobs["ablate_modules"] == jobs["measure_updates"] == 1
    assert "measure_modules" not in jobs
    assert "generate_answers" not in jobs
    project.run("figures", "report")
    assert find_differences(project.results) == {}
    scores = pd.read_parquet(project.results / "modules/scores.parquet")
    assert set(scores["metric"]) == {*WANTED, "ablation_kl"}
    assert (scores.groupby("metric").size() == 3 * len(PROJECTIONS)).all()
    assert list(scores.columns) == ["layer", "projection", "metric", "value", "d_in", "note"]
    assert scores["value"].notna().all()
    assert (scores["note"] == "").all()
    names = ["module_map", *(f"module_map_{metric}" for metric in [*WANTED[1:], "ablation_kl"])]
    page = (project.results / "report.html").read_text()
    manifest = json.loads((project.results / "manifest.json").read_text())
    listed, earlier = manifest["files"], manifest["compared_with"]
    assert earlier["name"] == "other"
    assert earlier["weights"] != manifest["model"]["weights"]
    assert "folder" not in earlier
    assert "<dt>Compared with</dt><dd>other</dd>" in page
    for name in names:
        assert (project.results / "figures" / f"{name}.png").stat().st_size > 5000
        assert f'id="{name}-image"' in page
        assert f"figures/{name}.svg" in listed
    caption = (project.results / "figures/module_map_relative_update.caption.txt").read_text()
    assert "from other (W) to tiny" in caption
    assert project.planned() == {}

    # another order, fewer of them, other colours: nothing is measured again
    project.change(figures__module_map__metric=["output_rms", "probe_auc"])
    again = project.planned()
    assert again == {
        "score_modules": 1,
        "check_module_claims": 1,
        "render_figure": 2,
        "collect_claims": 1,
        "write_manifest": 1,
    }
    project.change(figures__module_map__metric=WANTED, figures__module_map__centre=None)
    assert project.planned() == {"render_figure": len(names), "write_manifest": 1}
    project.change(figures__module_map__centre="auto", figures__module_map__update={"top_k": 4})
    assert project.planned("module_map")["measure_updates"] == 1
    assert "measure_quantization" not in project.planned("module_map")


def test_two_models_are_compared_on_one_scale_but_not_with_themselves(project):
    tiny.save(project.folder / "other-model", seed=1)
    project.overlay["model_sources"]["other"] = {"source": "path", "path": "other-model"}
    project.change(
        models=["tiny", "other"],
        figures__module_map__metric=["relative_update", "output_rms", "input_alignment"],
        figures__module_map__compare_with="other",
    )
    project.run("module_map")
    maps = {
        name: {path.stem for path in (project.folder / f"results/{name}/figures").glob("mod*.png")}
        for name in ("tiny", "other")
    }
    every = {"module_map", "module_map_output_rms", "module_map_input_alignment"}
    assert maps == {"tiny": every, "other": every - {"module_map_output_rms"}}
    target = "results/_models/figures/module_map"
    project.run(f"{target}.png", f"{target}_input_alignment.png")
    caption = (project.folder / f"{target}.caption.txt").read_text()
    assert caption.startswith("Root of the mean of ‖Wx‖²")
    assert re.search(r"Values span: tiny \d.*; other \d", caption)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"metric": "size"}, "figures.module_map.metric: 'size'; allowed: operation_strength, "),
        ({"metric": ["size"]}, r"figures.module_map.metric\[1\]: 'size'; allowed: "),
        ({"limits": {"output_rms": [2, 1]}}, r"limits.output_rms: \[2.*: the first must be below"),
        ({"limits": {"size": "data"}}, "figures.module_map.limits: 'size'; allowed: operation_"),
        ({"probe_token": "middle"}, "figures.module_map.probe_token: 'middle'; allowed: last_q"),
        ({"metric": "update_density"}, "update_density compares two checkpoints; name the earlier"),
        (
            {"metric": "update_density", "compare_with": "nobody"},
            "compare_with: 'nobody' is neither in",
        ),
        ({"metric": "update_density", "compare_with": "tiny"}, "'tiny' is the model itself"),
    ],
)
def test_mistakes_are_one_clear_line(made, tmp_path, changes, error):
    project = made.copy(tmp_path / "copy")
    project.change(**{f"figures__module_map__{key}": value for key, value in changes.items()})
    code, output = project.run("--dry-run", check=False)
    assert code != 0
    assert re.search(error, output)
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "family",
    ["gpt2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("phi3", "gpt_oss"))],
)
def test_all_five_figures_of_other_families(family, tmp_path_factory, root):
    """Fused projections, transposed ones, no gate, sinks and experts; the rest is in unit tests."""
    project = tiny_project(tmp_path_factory.mktemp(family), root, family=family)
    project.change(figures__module_map__metric=["operation_strength", "ablation_kl", "probe_auc"])
    project.run("figures", "report")
    scores = pd.read_parquet(project.results / "modules/scores.parquet")
    columns = [name for name in PROJECTIONS if not (family == "gpt2" and name == "mlp. gate")]
    for _, values in scores.groupby("metric"):
        assert list(dict.fromkeys(values["projection"])) == columns
        assert len(values) == 3 * len(columns)
    for figure in FIGURES:
        assert (project.results / "figures" / f"{figure}.png").stat().st_size > 5000
    claims = pd.read_parquet(project.results / "claims.parquet")
    about_gate = claims["claim"].str.startswith("module-gate")
    if family == "gpt2":
        assert (claims.loc[about_gate, "verdict"] == "not applicable").all()
    assert about_gate.any()
