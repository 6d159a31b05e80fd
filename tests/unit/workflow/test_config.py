import copy
import os
import re
import subprocess
import sys

import pytest

from llm_figures.core.errors import UserError
from llm_figures.models.layer_checks import check_choices, check_shape
from llm_figures.workflow.config import check_config, find_compared_entry, read_config


def checked(config, root):
    return check_config(config, root / "config" / "models.yaml")


def changed(config, key, value):
    """A copy of the config with `key` (dots between levels) set to `value`."""
    config = copy.deepcopy(config)
    *path, last = key.split(".")
    place = config
    for part in path:
        place = place[part]
    place[last] = value
    return config


def test_the_default_config_spells_out_every_default(default_config, root):
    """What the file leaves out is only what the figure's operation does not use."""
    filled, _ = checked(default_config, root)

    def missing(given, full, path=""):
        for key, value in full.items():
            if key not in given:
                yield f"{path}{key}"
            elif isinstance(value, dict):
                yield from missing(given[key], value, f"{path}{key}.")

    left_out = {
        # a set names only what differs from the defaults of `dataset`
        key
        for key in missing(default_config, filled)
        if not key.startswith("datasets.")
    }
    assert left_out == {
        "figures.mean_qkv.epsilon",
        "figures.mean_qkv.input",
        "figures.mean_qkv_tokens.epsilon",
        "figures.mean_qkv_tokens.input",
        "figures.scale_qkv.over",
    }


def test_an_empty_config_is_the_default_one(default_config, root):
    assert checked({}, root) == checked(default_config, root)


def test_checking_twice_changes_nothing(default_config, root):
    once, _ = checked(default_config, root)
    assert checked(once, root)[0] == once


def test_numbers_given_as_text_become_numbers(default_config, root):
    """YAML 1.1 reads 1e-3 as text."""
    config = changed(default_config, "figures.scale_qkv.epsilon", ["5e-1", "1e-3"])
    assert checked(config, root)[0]["figures"]["scale_qkv"]["epsilon"] == [0.5, 0.001]


LOCAL = {"mine": {"source": "path", "path": "/nowhere"}}
BAD = [
    ("modle", "x", "unknown key 'modle'; did you mean model?"),
    ("figures.scale_qkv.epsilons", [1], "figures.scale_qkv: unknown key 'epsilons'"),
    ("figures.scale_qkv.epsilon", ["abc"], "figures.scale_qkv.epsilon[1]: 'abc' is not of type"),
    (
        "figures.scale_qkv.epsilon",
        ["1e-3", 0.5, 0.001],
        "figures.scale_qkv.epsilon: duplicate value 0.001",
    ),
    (
        "figures.scale_qkv.epsilon",
        [1e39],
        "epsilon[1]: 1e+39 is beyond float32, which ends at 3.4e",
    ),
    ("figures.scale_qkv.epsilon", [0.5, -1e39], "epsilon[2]: -1e+39 is beyond float32"),
    ("figures.scale_qkv.epsilon", [1e-50], "epsilon[1]: 1e-50 is 0 in float32, whose least number"),
    ("figures.mean_qkv.limits", [0, 1e308], "limits: [0, 1e+308]: no colour scale is drawn beyond"),
    (
        "figures.mean_qkv.limits",
        [0, 1e-320],
        "limits: [0, 1e-320]: the two are too close for a col",
    ),
    (
        "figures.probe_auc.limits",
        [1, 1 + 2**-52],
        "the two are too close for a colour scale between",
    ),
    ("figures.module_map.limits", [1, 1], "module_map.limits: [1, 1]: the first must be below the"),
    (
        "figures.module_map.limits",
        {"output_rms": [2, 1]},
        "figures.module_map.limits.output_rms: [2, 1]: the first must be below the second",
    ),
    ("figures.mean_qkv.limits", [0, float("inf")], "limits[2]: inf is not a finite number"),
    ("probe.seed", 2**32, "config: probe.seed: 4294967296; must be at most 4294967295"),
    ("dataset.seed", 2**32, "config: dataset.seed: 4294967296; must be at most 4294967295"),
    ("prompt.seed", 2**64, "config: prompt.seed: an integer of 20 digits is too large"),
    ("inputs", ["a", "b\ud800"], "config: inputs[2]: 'b\\ud800' holds a lone surrogate (\\ud800)"),
    ("prompt.system", "a\0", "config: prompt.system: 'a\\x00' holds a NUL character"),
    ("dataset.path", "a{x}.csv", "dataset.path: 'a{x}.csv' holds '{x}', and Snakemake takes names"),
    ("dataset.hold_out", "{x}/a.csv", "config: dataset.hold_out: '{x}/a.csv' holds '{x}'"),
    ("result_folders", ["results/{x}"], "result_folders[1]: 'results/{x}' holds '{x}'"),
    ("bundle", "{x}.zip", "config: bundle: '{x}.zip' holds '{x}'"),
    ("claims.files", ["a\nb"], "config: claims.files[1]: 'a\\nb' holds a control character"),
    ("model", "a" * 25, "config: model: 'aaaaaaaaaaaaaaaaaaaaaaaaa' repeats one part twenty times"),
    ("prompt.temperature", 1e-300, "temperature: 1e-300 is too small to sample with; write 0"),
    ("gpu_memory_gb", 1e-320, "config: gpu_memory_gb: 1e-320; must be at least 1"),
    ("device", "cuda:" + "9" * 20, "config: device: 'cuda:99999999999999999999'; allowed: auto"),
    ("figures.scale_qkv.epsilon", [float("nan")], "epsilon[1]: nan is not a finite number"),
    (
        "figures.mean_qkv.stage",
        "rotary",
        "figures.mean_qkv.stage: 'rotary'; allowed: after_rotary, before_rotary",
    ),
    ("figures.scale_qkv.epsilon", [], "figures.scale_qkv.epsilon: [] has 0 entries"),
    ("figures.scale_qkv.input", 4, "figures.scale_qkv.input: 4; there are 3 inputs"),
    ("figures.scale_qkv", {"operation": "mean", "input": 4}, "figures.scale_qkv.input: 4; there"),
    ("choices.layer", ["center"], "choices.layer[1]: 'center'; allowed:"),
    ("figures.mean_qkv.operation", "median", "'median'; allowed: mean, scale"),
    ("figures.mean_qkv.components", ["queery"], "'queery'; allowed: query, key, value"),
    ("figures.mean_qkv.over", "heads", "'heads'; allowed: features, tokens"),
    ("figures.mean_qkv.layer", "first", "figures.mean_qkv.layer: 'first'; allowed:"),
    ("figures.mean_qkv.layer", -1, "figures.mean_qkv.layer: -1; must be at least 0"),
    ("figures.mean_qkv.head", "best", "figures.mean_qkv.head: 'best'; allowed:"),
    ("figures.mean_qkv.limits", [1, 0], "limits: [1, 0]: the first must be below the second"),
    (
        "figures.module_map",
        {"limits": [0, 1e-8], "centre": 0.9},
        "figures.module_map.centre: 0.9 of operation_strength lies outside its limits, 0 to 1e-08",
    ),
    (
        "figures.module_map",
        {
            "metric": ["output_rms", "probe_auc"],
            "limits": {"probe_auc": [0.5, 1]},
            "centre": {"output_rms": 3, "probe_auc": 0.4},
        },
        "figures.module_map.centre: 0.4 of probe_auc lies outside its limits, 0.5 to 1; choose",
    ),
    ("figures.probe_auc.tokens", ["last"], "figures.probe_auc.tokens[1]: 'last'; allowed: last_q"),
    (
        "figures.probe_auc.highlight.tokens",
        ["first_answer", "exact_answer_after_last"],
        "'exact_answer_after_last' is not among the figure's tokens: last_q, first_answer",
    ),
    ("figures.probe_auc.highlight.layers", ["12", 3], "highlight.layers[1]: '12'; allowed:"),
    ("figures.module_map.metric", "size", "'size'; allowed: operation_strength"),
    ("inputs", ["  "], "inputs[1]: '  ' is an empty text"),
    ("inputs", [""], "inputs[1]: ''"),
    ("inputs", "a text", "inputs: 'a text' is not of type array"),
    ("model", "gpt-9", "model: 'gpt-9' is neither in"),
    ("device", "gpu", "device: 'gpu'; allowed: auto"),
    ("dtype", "int8", "dtype: 'int8'; allowed: auto, float32, bfloat16, float16"),
    ("batch_size", "many", "batch_size: 'many' is not of type integer"),
    ("batch_size", 0, "batch_size: 0; must be at least 1"),
    ("probe.C", 0, "probe.C: 0; must be at least 1e-12"),
    ("probe.C", float("inf"), "probe.C: inf is not a finite number"),
    ("figures.probe_auc.limits", [0.5, float("inf")], "limits[2]: inf is not a finite number"),
    ("probe.folds", 1, "probe.folds: 1; must be at least 2"),
    ("prompt.template", "Q: ?", "prompt.template: 'Q: ?' lacks {question}"),
    ("dataset.path", "nowhere.csv", "dataset.path: nowhere.csv: no such file"),
    ("dataset.path", "~nosuchuser/a.csv", "dataset.path: ~nosuchuser/a.csv: no such file"),
    ("result_folders", ["~nosuchuser"], "result_folders[1]: ~nosuchuser: no such folder"),
    ("dataset.name", "trivia", "dataset.name: 'trivia'; allowed: facts"),
    ("dataset.revision", "main", "dataset.revision: 'main'; allowed: the 40 hex digits"),
    ("exact_answer.method", "regex", "exact_answer.pattern: method regex needs one; give it"),
    ("exact_answer.prompt", "{question}", "exact_answer.prompt: '{question}' lacks {answer}"),
    ("probe.preset", "lax", "probe.preset: 'lax'; allowed: strict, published"),
    (
        "probe.site",
        "block",
        "probe.site: 'block'; allowed: residual, attention, mlp, mlp_input, head, or null",
    ),
    ("probe.C", "best", "probe.C: 'best'; allowed:"),
    ("probe.export.cells", "all", "probe.export.cells: 'all'; allowed: best, or a list of tables"),
    ("probe.export.cells", [{"layer": 1}], "probe.export.cells[1]: missing key(s): token"),
    (
        "probe.export.cells",
        [{"layer": 2, "token": "-1"}] * 2,
        "probe.export.cells: duplicate value {layer: 2, token: -1}",
    ),
    ("probe.export.cells", [{"token": "-9"}], "cells[1].token: '-9'; allowed: last_q, first_"),
    (
        "probe.export.cells",
        [{"token": "-1"}, {"token": "exact_answer_after_last"}],
        "cells[2].token: 'exact_answer_after_last' is not among the tokens of probe_auc: last_q, ",
    ),
    (
        "probe.export.cells",
        [{"layer": 31, "token": "-1"}],
        "cells[1].layer: 31 is outside the model, whose probes are of layers 0 (embeddings) to 30",
    ),
    (
        "probe.p_true.prompt",
        "{question}?",
        "probe.p_true.prompt: '{question}?' lacks {answer} or {exact_answer}",
    ),
    (
        "probe.p_true.variants",
        {"short": {"prompt": "{answer}?"}},
        "probe.p_true.variants.short.prompt: '{answer}?' lacks {question}",
    ),
    (
        "probe.p_true.variants",
        {"a b": {}},
        "probe.p_true.variants: 'a b'; allowed: a name of at most 30 letters, digits and _ that ",
    ),
    (
        "probe.p_true.variants",
        {"short": {"if_ture": " yes"}},
        "probe.p_true.variants.short: unknown key 'if_ture'; did you mean if_true?",
    ),
    (
        "probe",
        {"kind": "lda", "C": 0.5},
        "probe.C: 0.5; only for probe.kind: logistic, and it is lda; leave one of them null",
    ),
    ("probe.kind", "svm", "'svm'; allowed: logistic, mean_difference, lda, mlp"),
    (
        "figures.probe_transfer.layer",
        31,
        "figures.probe_transfer.layer: 31 is outside the model, whose probes are of layers 0 "
        "(embeddings) to 30",
    ),
    ("figures.probe_transfer.layer", -1, "figures.probe_transfer.layer: -1; must be at least 0"),
    ("figures.probe_curves.tokens", ["exact_answer_after_last"], "is not among the tokens of"),
    ("figures.module_map.compare_with", "x", "figures.module_map.compare_with: 'x' is neither in"),
    ("figures.module_map.compare_with", "../x", "compare_with: '../x'; allowed: a name of letters"),
    (
        "figures.module_map.compare_with",
        "smollm2-135m",
        "figures.module_map.compare_with: 'smollm2-135m' is the model itself",
    ),
    (
        "figures.module_map.compare_with",
        "mistral-7b-instruct",
        "smollm2-135m and mistral-7b-instruct are of different architectures: layers 30 and 32",
    ),
    (
        "figures.module_map.metric",
        ["operation_strength", "update_density"],
        "figures.module_map.metric: update_density compares two checkpoints; name the earlier one",
    ),
    ("figures.module_map.update.tolerance", -1, "update.tolerance: -1; must be at least 0"),
    ("figures.module_map.quantization.bits", 16, "quantization.bits: 16; must be at most 8"),
    ("figures.module_map.quantization.scheme", "nf4", "'nf4'; allowed: symmetric, asymmetric"),
    ("style.dpi", 72, "style.dpi: 72; must be at least 200"),
    ("style.venue", "ijcai", "style.venue: 'ijcai'; allowed: default, neurips, icml, iclr, acl"),
    ("style.width", 0, "style.width: 0; allowed: column, full, or a number with a unit: 3.25in"),
    ("style.width", 3.25, "style.width: 3.25; allowed: column, full, or a number with a unit"),
    ("style.width", "3.25", "style.width: '3.25'; allowed: column, full, or a number with a unit"),
    ("style.width", "3ft", "style.width: '3ft'; allowed: column, full, or a number with a unit"),
    ("style.width", "0.0 cm", "style.width: '0.0 cm': must be at least 1in (2.54cm)"),
    ("style.width", "1cm", "style.width: '1cm': must be at least 1in (2.54cm) and at most 40in"),
    ("style.width", "9999cm", "style.width: '9999cm': must be at least 1in (2.54cm) and at most"),
    ("style.width", "full", "style.width: 'full': needs a style.venue; or give a number with a"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=[f"{k}={v}" for k, v, _ in BAD])
def test_bad_values_are_one_line_that_names_key_value_and_what_is_allowed(
    default_config, root, key, value, message
):
    with pytest.raises(UserError) as caught:
        checked(changed(default_config, key, value), root)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"source": "path", "path": "/nowhere"}, "model mine: path: /nowhere: no such folder"),
        ({"source": "path", "path": "."}, "no config.json in it"),
        ({"source": "path"}, "missing key(s): path"),
        ({"path": "."}, "missing key(s): source"),
        ({"source": "ftp"}, "source: 'ftp'; allowed: pypi, path, hub"),
        (
            {"source": "hub", "repo": "a/b", "revision": "main"},
            "revision: 'main'; allowed: the 40 hex digits of a commit",
        ),
        ({"source": "path", "path": ".", "pth": 1}, "unknown key 'pth'; did you mean path?"),
        ({"source": "path", "path": "a.gguf"}, "path: a.gguf: no such file: a.gguf"),
        ({"source": "path", "path": ".", "file": "a.gguf"}, "path: .: no such file: a.gguf"),
        ({"source": "path", "path": "../README.gguf"}, "no such file"),
        (
            {"source": "path", "path": ".", "file": "a.bin"},
            "file: 'a.bin'; allowed: the name of a .gguf file",
        ),
    ],
)
def test_bad_models_are_named(default_config, root, tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    config = {**default_config, "model": "mine", "model_sources": {"mine": entry}}
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        checked(config, root)
    assert "\n" not in str(caught.value)


def test_names_of_models_that_differ_in_case_alone_are_refused(default_config, root):
    entry = {"source": "hub", "repo": "a/b", "revision": "0" * 40}
    config = default_config | {"model_sources": {"Mine": entry, "mine": entry}}
    two = "config: models 'Mine' and 'mine' differ in case alone"
    with pytest.raises(UserError, match=two):
        checked(config | {"models": ["Mine", "mine"]}, root)
    compared = changed(config | {"model": "Mine"}, "figures.module_map.compare_with", "mine")
    with pytest.raises(UserError, match=two):
        checked(compared, root)
    assert list(checked(config | {"model": "Mine"}, root)[1]) == ["Mine"]


def test_a_bad_pattern_is_named(default_config, root):
    default_config["exact_answer"].update(method="regex", pattern="(a")
    with pytest.raises(
        UserError, match=r"exact_answer.pattern: '\(a' is not a regular expression \(missing \)"
    ):
        checked(default_config, root)


def test_the_curves_show_the_key_tokens_that_the_figure_has(default_config, root):
    figures = default_config["figures"]
    figures["probe_auc"].update(tokens=["-1", "-2", "last_q"], highlight=None)
    whole, _ = checked(default_config, root)
    assert whole["figures"]["probe_curves"]["tokens"] == ["last_q", "-1"]
    figures["probe_auc"]["tokens"] = ["-2", "-3"]
    whole, _ = checked(default_config, root)
    assert whole["figures"]["probe_curves"]["tokens"] == ["-2", "-3"]


@pytest.mark.parametrize("layers", [["12.5%", "87.5%"], [1, 2]], ids=["shares", "numbers"])
def test_the_default_rectangle_is_no_reason_against_other_tokens(default_config, root, layers):
    probe = default_config["figures"]["probe_auc"]
    probe["tokens"] = ["last_q", "exact_answer_last"]
    probe["highlight"]["layers"] = layers
    whole, _ = checked(default_config, root)
    assert whole["figures"]["probe_auc"]["highlight"]["tokens"] == ["first_answer", "-1"]
    del probe["highlight"]
    checked(default_config, root)
    probe["highlight"] = {"tokens": ["first_answer", "-2"]}
    with pytest.raises(UserError) as caught:
        checked(default_config, root)
    assert str(caught.value) == (
        "config: figures.probe_auc.highlight.tokens: 'first_answer' is not among the figure's "
        "tokens: last_q, exact_answer_last"
    )


@pytest.mark.parametrize("split", ["group_folds", "groups"])
def test_folds_by_group_need_groups(default_config, root, tmp_path, split):
    default_config["probe"]["split"] = split
    checked(default_config, root)  # the built-in facts have groups
    path = tmp_path / "mine.csv"
    path.write_text("question,answer,topic\nWho?,me,people\n")
    default_config["dataset"]["path"] = str(path)
    with pytest.raises(UserError) as caught:
        checked(default_config, root)
    assert str(caught.value) == (
        f"config: probe.split: {split}: the questions have no groups; name their column in "
        "dataset.group, or take another split"
    )
    checked(changed(default_config, "dataset.group", "topic"), root)
    # Held-out questions are the split, whatever it is set to.
    (tmp_path / "rest.csv").write_text("question,answer\nWhat?,it\n")
    checked(changed(default_config, "dataset.hold_out", str(tmp_path / "rest.csv")), root)


def test_the_published_preset_brings_its_fifteen_tokens(default_config, root):
    default_config["probe"]["preset"] = "published"
    tokens = checked(default_config, root)[0]["figures"]["probe_auc"]["tokens"]
    assert len(tokens) == 15
    assert {"exact_answer_after_last", "stop"} < {*tokens}
    assert "-8" not in tokens


def test_a_layer_or_head_outside_the_model_is_named(default_config):
    shape = {"layers": 4, "heads": 2}
    check_shape(default_config["figures"], shape)
    for key, value, message in (
        ("mean_qkv.layer", 4, "mean_qkv.layer: 4 is outside the model, which has layers 0 to 3"),
        ("scale_qkv.head", 2, "scale_qkv.head: 2 is outside the model, which has heads 0 to 1"),
        ("probe_auc.highlight.layers", [1, 9], "9 is outside the model, whose rows are 0"),
    ):
        figures = changed(default_config["figures"], key, value)
        with pytest.raises(UserError, match=message):
            check_shape(figures, shape)


def test_a_choice_outside_the_model_is_named(default_config, root, tmp_path):
    choices = checked(default_config, root)[0]["choices"]
    shape = {"layers": 4, "heads": 2}
    check_choices(choices, shape)
    check_choices(choices | {"layer": [0, 3, "auto"], "head": [1, "mean"]}, shape)
    with pytest.raises(UserError) as caught:
        check_choices(choices | {"layer": [0, 4]}, shape)
    assert str(caught.value) == (
        "config: choices.layer[2]: 4 is outside the model, which has layers 0 to 3"
    )
    with pytest.raises(UserError, match=r"^config: choices.head\[1\]: 2 is .* has heads 0 to 1$"):
        check_choices(choices | {"head": [2]}, shape)
    # Known before any job where the model is a folder.
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 4, "num_attention_heads": 2}')
    mine = {"mine": {"source": "path", "path": str(tmp_path)}}
    config = {**default_config, "model": "mine", "model_sources": mine, "choices": {"layer": [9.0]}}
    with pytest.raises(UserError, match=r"^config: choices.layer\[1\]: 9 is outside the model"):
        checked(config, root)


def test_datasets_are_checked_by_their_columns(default_config, root, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffask,gold\nWho?,me\n", encoding="utf-8")
    config = changed(default_config, "dataset.path", str(path))
    with pytest.raises(UserError, match="dataset.question: .* no column 'question'; it has: ask"):
        checked(config, root)
    config["dataset"].update(question="ask", answer="gold")
    checked(config, root)
    for name, content, message in (
        ("empty.csv", "", "is empty"),
        ("bad.jsonl", "{", "line 1: "),
        ("list.jsonl", "\n[1, 2]", "line 2 is not a JSON object"),
        ("zero.parquet", "", "cannot be read"),
        ("table.xlsx", "", "unknown kind '.xlsx'; allowed: .csv, .json, .jsonl, .ndjson"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=message):
            checked(changed(config, "dataset.path", str(tmp_path / name)), root)


def test_models_take_the_place_of_model_in_their_order(default_config, root, tmp_path):
    folders = {}
    for name, layers in (("a", 8), ("b", 4)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"num_hidden_layers": {layers}}}')
        folders[name] = {"source": "path", "path": str(folder)}
    _, entries = checked(default_config, root)
    assert list(entries) == ["smollm2-135m"]
    config = {**default_config, "model_sources": folders, "models": ["b", "smollm2-135m", "a"]}
    whole, entries = checked(config, root)
    assert list(entries) == ["b", "smollm2-135m", "a"]
    assert entries["b"]["path"] == str(tmp_path / "b")
    assert entries["a"]["safetensors_only"] is True
    assert checked(whole, root) == (whole, entries)
    # The shape of each is checked, and the model named.
    config = changed(config, "figures.mean_qkv.layer", 5)
    with pytest.raises(UserError, match=r"mean_qkv.layer: 5 is outside .* 0 to 3 \(model b\)$"):
        checked(config, root)
    checked({**config, "models": ["a"]}, root)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"models": ["smollm2-135m"] * 2}, ["models: duplicate value 'smollm2-135m'"]),
        (
            {"models": ["x", "smollm2-135m", "y"]},
            ["models[1]: 'x' is neither in", "models[3]: 'y' is neither in"],
        ),
        ({"models": "a,b"}, ["models: 'a,b' is not of type array or null (Several models"]),
        ({"models": ["../a"]}, ["models[1]: '../a'; allowed: "]),
        ({"models": []}, ["models: []; name at least one"]),
        ({"result_folders": ["gone"]}, ["result_folders[1]: gone: no such folder"]),
        (
            {"result_folders": ["."]},
            ["result_folders[1]: .: has none of model.json, claims.parquet"],
        ),
        (
            {"result_folders": ["smollm2-135m"]},
            ["smollm2-135m is also the name of a model of this run"],
        ),
        (
            {
                "models": ["smollm2-135m", "b"],
                "dataset": {"response": "answer", "label": "right"},
            },
            ["dataset.response: 'answer' holds one model's answers; run the models one at a time"],
        ),
    ],
    ids=str,
)
def test_bad_lists_of_models_and_folders_are_one_line_each(
    default_config, root, tmp_path, monkeypatch, changes, lines
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / "model.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "mine.csv").write_text("question,answer,right\n")
    sources = {"b": {"source": "path", "path": "model"}}
    dataset = {**default_config["dataset"], **changes.get("dataset", {})}
    if "dataset" in changes:
        dataset["path"] = "mine.csv"
    config = {**default_config, "model_sources": sources, **changes, "dataset": dataset}
    with pytest.raises(UserError) as caught:
        checked(config, root)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines), found
    for line, wanted in zip(found, lines, strict=True):
        assert line.startswith("config: ")
        assert wanted in line


def test_result_folders_are_written_as_paths_of_the_workflow(default_config, root, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "claims.parquet").touch()
    config = {**default_config, "result_folders": [f"{tmp_path}/./big/"]}
    assert checked(config, root)[0]["result_folders"] == [f"{tmp_path}/big"]


def test_the_checkpoint_that_is_compared_with_is_no_model_of_the_run(
    default_config, root, tmp_path
):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 30, "vocab_size": 7}')
    sources = {"base": {"source": "path", "path": str(tmp_path)}}
    config = {**default_config, "model_sources": sources}
    models = root / "config" / "models.yaml"
    assert find_compared_entry(config, models) == {}
    config = changed(config, "figures.module_map.compare_with", "base")
    found, entries = checked(config, root)
    assert list(entries) == ["smollm2-135m"]
    compared = find_compared_entry(found, models)
    assert list(compared) == ["base"]
    assert compared["base"]["safetensors_only"] is True
    # beside others it may be one of the run's models
    checked({**config, "models": ["base", "smollm2-135m"]}, root)
    with pytest.raises(UserError, match="'base' is the model itself"):
        checked({**config, "models": ["base"]}, root)


def test_reading_the_config_imports_nothing_heavy():
    """The Snakefile reads it at every start."""
    code = "import sys, llm_figures.workflow.config; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip
    heavy = {"torch", "transformers", "pandas", "numpy", "matplotlib", "pyarrow", "jsonschema"}
    assert not heavy & {*output.split()}


def test_what_stands_for_something_else_is_resolved_once(default_config):
    config = read_config(default_config)
    assert config.dataset.source == "facts"
    assert config.prompt.stop == ("\n",)
    assert config.figures.probe_curves.tokens[0] == "last_q"
    assert config.protocol.solver == "newton"
    assert config.model_names == ("smollm2-135m",)
    default_config["prompt"]["style"] = "chat"
    default_config["probe"].update(preset="published", solver="newton")
    default_config["models"] = ["a", "b"]
    config = read_config(default_config)
    assert config.prompt.stop == ()
    assert (config.protocol.site, config.protocol.solver) == ("mlp_input", "newton")
    assert config.model_names == ("a", "b")


def test_a_named_run_has_a_folder_of_its_own_and_not_that_of_another_model(default_config, root):
    run = changed(default_config, "run", "layer-10")
    assert list(checked(run, root)[1]) == ["smollm2-135m@layer-10"]
    source = {"smollm2-135m@layer-10": {"source": "path", "path": "x"}}
    with pytest.raises(UserError, match="smollm2-135m@layer-10 is the name of a model"):
        checked(changed(run, "model_sources", source), root)
    with pytest.raises(UserError, match="a name of letters, digits, dots, hyphens"):
        checked(changed(default_config, "run", "a/b"), root)
