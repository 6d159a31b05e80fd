"""Metrics of weights in the workflow: what they are made of, and what is refused."""

import json

import pytest

import tiny
from llm_figures.core.parquet_tensors import read_frame
from project import tiny_project

UPDATES = "results/tiny/modules/metrics/updates.parquet"
QUANTIZATION = "results/tiny/modules/metrics/quantization.parquet"


@pytest.fixture
def project(tmp_path, root):
    """A project of the tiny model and the one that it is compared with."""
    project = tiny_project(tmp_path, root)
    tiny.save(tmp_path / "base-model", seed=1)
    project.change(
        model_sources__base={"source": "path", "path": "base-model"},
        figures__module_map__compare_with="base",
    )
    return project


@pytest.mark.workflow
def test_weights_are_compared_without_a_model_in_memory(project):
    assert project.planned(UPDATES, QUANTIZATION) == {
        "prepare_model": 2,
        "measure_updates": 1,
        "measure_quantization": 1,
    }
    project.run(UPDATES, QUANTIZATION)
    updates = read_frame(project.folder / UPDATES)
    errors = read_frame(project.folder / QUANTIZATION)
    assert list(updates) == list(errors) == ["layer", "projection", "metric", "value"]
    assert [str(kind) for kind in updates.dtypes[["layer", "value"]]] == ["int32", "float64"]
    assert updates.groupby("metric").size().to_dict() == {
        "relative_update": 21,
        "subspace_rotation": 21,
        "update_density": 21,
        "update_effective_rank": 21,
    }
    assert (updates.value[updates.metric == "update_density"] == 1).all()
    assert errors.groupby("metric").size().to_dict() == {"quantization_error": 21}
    assert errors.value.between(0.02, 0.2).all()
    assert not (project.folder / "results" / "base" / "forward").exists()

    # other weights of the one that is compared with: the comparison alone is made anew
    tiny.save(project.folder / "base-model", seed=2)
    assert project.planned(UPDATES, QUANTIZATION) == {"prepare_model": 1, "measure_updates": 1}
    project.run(UPDATES)
    again = read_frame(project.folder / UPDATES)
    assert not again.value[again.metric == "relative_update"].equals(
        updates.value[updates.metric == "relative_update"]
    )

    # an option of the round trip is none of the comparison
    project.change(figures__module_map__quantization={"bits": 8})
    assert project.planned(UPDATES, QUANTIZATION) == {"measure_quantization": 1}
    project.run(QUANTIZATION)
    assert read_frame(project.folder / QUANTIZATION).value.max() < errors.value.min() / 10


@pytest.mark.workflow
def test_what_cannot_be_compared_is_refused_in_one_line(project):
    def said(*targets, **changes):
        for key, value in changes.items():
            project.change(**{key: value})
        returned, output = project.run(*(targets or (UPDATES,)), check=False)
        assert returned
        assert "Traceback" not in output
        return output

    key = "figures__module_map__compare_with"
    where = "config: figures.module_map.compare_with"
    assert f"{where}: 'nobody' is neither in" in said(**{key: "nobody"})
    assert f"{where}: 'tiny' is the model itself" in said(**{key: "tiny"})
    assert f"{where} is null; name an earlier checkpoint" in said(**{key: None})
    project.change(**{key: "base"})
    tiny.save(project.folder / "base-model", num_hidden_layers=2)
    assert f"{where}: tiny and base are of different architectures: layers 3 and 2" in said()

    # alike in their sizes, but not of one type: only the job sees it
    config = project.folder / "base-model" / "config.json"
    tiny.save(project.folder / "base-model", family="mistral")
    assert json.loads(config.read_text())["model_type"] == "mistral"
    line = "model tiny and model base differ in model_type: llama and mistral; choose one"
    assert line in said()

    line = "gguf_error: the model does not come from a GGUF file; leave gguf_error out"
    assert line in said(QUANTIZATION, figures__module_map__metric=["gguf_error"])
