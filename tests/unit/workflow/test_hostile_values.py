"""Every option with values that break programs: taken, or refused in a line that names the key."""

import copy
import datetime
import json

import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.options import options_of
from llm_figures.models.options import (
    FinetunedModel,
    HubModel,
    LocalModel,
    PypiModel,
    PypiPartsModel,
)
from llm_figures.workflow.config import Config, check_config

TEXTS = (
    *("", " ", "\n", "a\nb", "\ud800", "a\ud800b", "\x00", "\x1b[31m", "{x}", "{{x}}", "{", "%s"),
    *("a" * 25, "x" * 300, "a b" * 3000, "..", "/", "../x", "~nobody/x", "-x", "a\n.gguf"),
    *("(", "[", "auto\n", "1e400", ".inf", "nan", "٣", "{question}{answer}{gold}\ud800"),
)
NUMBERS = (
    *(0, -1, 1, 3, 2**32 - 1, 2**32, 2**63, 10**30, 10**400, 16**5000),
    *(0.5, -0.0, 1e-320, 1e-50, 1e39, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
)
SINGLE = (*TEXTS, *NUMBERS, None, True, b"x", datetime.date(2020, 1, 1), {}, [], {1: 2}, {"a": []})
LISTS = (
    *([value] for value in SINGLE),
    *([0, high] for high in (0, -1, 1e-320, 1e39, 1e308, float("inf"), float("nan"))),
    *([1.0, 1 + 2**-52], [-1e308, 1e308], [1, 1], [[1, 2]], ["a", 1], [{"a": 1}, 2]),
)
SHAPE = {"parameters": 9, "layers": 2, "hidden_size": 8, "heads": 2}
SHAPE |= {"intermediate_size": 16, "vocabulary": 100}
ENTRIES = {
    PypiModel: {"source": "pypi", "package": "x", "version": "1", "wheel_size": 1, "file": "a.gguf"}
    | {"wheel_sha256": "0" * 64, "file_sha256": "0" * 64, "shape": SHAPE},
    LocalModel: {"source": "path", "path": "nowhere", "shape": SHAPE},
    HubModel: {"source": "hub", "repo": "a/b", "revision": "0" * 40, "shape": SHAPE},
    FinetunedModel: {"source": "finetune", "base": "smollm2-135m", "shape": SHAPE},
    PypiPartsModel: {"source": "pypi_parts", "file": "a.gguf", "file_size": 1, "notice": "terms"}
    | {
        "parts": [
            {"package": "x", "version": "1", "wheel_size": 1, "file": "a.0"}
            | {"wheel_sha256": "0" * 64}
        ],
        "file_sha256": "0" * 64,
        "shape": SHAPE,
    },
}


def list_keys(kind, path=()):
    for name in kind.model_fields:
        yield (*path, name)
        if section := options_of(kind.annotation(name)):
            yield from list_keys(section, (*path, name))


def change(config, path, value):
    config = copy.deepcopy(config)
    place = config
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    return config


CASES = [pytest.param({}, path, id=".".join(path)) for path in list_keys(Config)] + [
    pytest.param(
        {"model": "mine", "model_sources": {"mine": entry}},
        ("model_sources", "mine", *path),
        id=f"{entry['source']}.{'.'.join(path)}",
    )
    for kind, entry in ENTRIES.items()
    for path in list_keys(kind)
]


@pytest.mark.parametrize(("base", "path"), CASES)
def test_a_value_is_taken_or_refused_by_name(base, path, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = root / "config" / "models.yaml"
    for value in (*SINGLE, *LISTS):
        try:
            checked, _ = check_config(change(base, path, value), models)
        except UserError as error:
            for line in str(error).encode().decode().split("\n"):
                assert line.startswith(("config: ", str(models))), line
                assert line.isprintable(), line
        else:
            json.dumps(checked, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("name", [*TEXTS, 0, None, 1.5, True], ids=ascii)
def test_a_models_name_is_taken_or_refused(name, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {"model": name, "model_sources": {name: ENTRIES[HubModel]}}
    try:
        checked, _ = check_config(config, root / "config" / "models.yaml")
    except UserError as error:
        lines = str(error).encode().decode().split("\n")
        assert all(line.startswith("config: model") and line.isprintable() for line in lines)
    else:
        assert checked["model"] == name
