"""What follows from the option classes: config.yaml, the JSON schemas and the reference."""

import importlib
import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from llm_figures.claims.figures import ATTENTION_FIGURES, FIGURES, KINDS
from llm_figures.core.options import Options, documentation, options_of
from llm_figures.workflow.config import Config
from llm_figures.workflow.generate_config import WIDTH, format_value, generate_files


@pytest.mark.parametrize("name", generate_files())
def test_generated_files_are_up_to_date(root, name):
    assert (root / name).read_text(encoding="utf-8") == generate_files()[name], "run: make config"


def test_every_option_is_documented():
    def undocumented(kind, path=""):
        for name in kind.model_fields:
            if not documentation(kind, name).text:
                yield f"{path}{name}"
            if section := options_of(kind.annotation(name)):
                yield from undocumented(section, f"{path}{name}.")

    assert list(undocumented(Config)) == []


def test_the_reference_has_every_key(root):
    page = (root / "docs" / "options.md").read_text(encoding="utf-8")

    def sections(options, path=""):
        keys = list(type(options).model_fields)
        yield path, keys
        for key in keys:
            if isinstance(part := getattr(options, key), Options):
                yield from sections(part, f"{path}.{key}".removeprefix("."))

    for path, keys in sections(Config()):
        assert not path or f"# {path}\n" in page
        for key in keys:
            section = f"{path}.{key}".removeprefix(".")
            assert f"| `{key}` |" in page or f"# {section}\n" in page, section


def test_the_config_is_easy_to_read(root):
    lines = (root / "config" / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(" # " in line for line in lines) > 100


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 0.5, 1e-10, 5e-5, 1e20, "a", "-1", "12.5%", " True", "{q}", "a: b", "a #b",
     "no", "1e-3", "a\nb", "", ["a", "b, c", "-1"], {"a": [1, "x"]}],
    ids=repr,
)  # fmt: skip
def test_values_read_as_they_were_written(value):
    assert yaml.safe_load(f"key: {format_value(value)}") == {"key": value}


def test_schemas_accept_what_the_classes_accept(root):
    def errors(kind, values):
        schema = json.loads((root / "workflow" / "schemas" / f"{kind}.schema.json").read_text())
        Draft202012Validator.check_schema(schema)
        return list(Draft202012Validator(schema).iter_errors(values))

    for file in (root / "config").glob("*.yaml"):
        kind = file.stem if file.stem in ("models", "claims") else "config"
        assert errors(kind, yaml.safe_load(file.read_text(encoding="utf-8"))) == []
    for wrong in (
        {"modle": "x"},
        {"figures": {"scale_qkv": {"epsilons": [1]}}},
        {"figures": {"scale_qkv": {"epsilon": [1, 1]}}},
        {"figures": {"mean_qkv": {"layer": -1}}},
        {"figures": {"module_map": {"metric": "size"}}},
        {"prompt": {"template": "no question"}},
        {"probe": {"folds": 1}},
        {"model_sources": {"mine": {"source": "path"}}},
    ):
        assert errors("config", wrong), wrong


def test_the_registry_names_what_is_there(root):
    assert FIGURES == ("mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc", "module_map")
    assert FIGURES[:3] == ATTENTION_FIGURES
    for name, kind in KINDS.items():
        module = importlib.import_module(kind.source.module)
        assert callable(module.draw), name
        assert callable(module.describe), name
        assert re.fullmatch(r"\w+/\w+\.parquet", kind.source.scores)
