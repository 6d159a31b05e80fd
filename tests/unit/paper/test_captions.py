"""Every number of a caption is among the numbers that its figure states, and nothing else is."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import drawn_figures
import planted
import planted_best
import resampled
from llm_figures.attention import figure as attention_figure
from llm_figures.attention import sink_figure
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionFigure, SinkMap
from llm_figures.attention.scores import compute_cells
from llm_figures.attention.sinks import score_sinks
from llm_figures.claims import choices_figure
from llm_figures.claims.choices import evaluate_choices
from llm_figures.claims.options import ChoicesDrawing, ChoicesScoring
from llm_figures.core.options_reader import read_options
from llm_figures.core.stated_numbers import CLOSING, DASH, OPENING
from llm_figures.modules import figure as module_figure
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.captions import make_caption
from llm_figures.probe import best_figure, curves_figure, heads_figure, presets_figure
from llm_figures.probe import figure as probe_figure
from llm_figures.probe.options import ProbeAuc, ProbeBest, ProbeCurves, ProbeHeads
from llm_figures.probe.protocol import OF_LOGISTIC, PRESETS, TOKENS
from llm_figures.workflow.config import check_claims

MODEL = "the model"
MARK = re.compile(f"{OPENING}(.*?){CLOSING}")
STATED_TOKENS = ["last_q", "exact_answer_last", "-8"]


def attention(figure, rest=0.0, **changes):
    options = read_options(AttentionFigure, {"operation": figure.split("_")[0]}, figure)
    states = [planted.states(index, [planted.sink(9)] * 2) for index in (1, 2, 3)]
    cells = compute_cells(figure, options.changed(**changes), states)
    return attention_figure, cells.assign(weight=cells["weight"] * (1 - rest)), options


def hybrid():
    module, cells, options = attention("mean_qkv", head=1, layer=0)
    return module, cells.assign(model_layers=12), options.changed(layer=0)


def probe(module, section, change=lambda table: table, **protocol):
    protocol = PRESETS["strict"].changed(**protocol).plain()
    values = {**section().plain(), "tokens": STATED_TOKENS, "protocol": protocol}
    table = drawn_figures.probe_scores(4, STATED_TOKENS).assign(n_train=80, n_test=20)
    return module, change(table), read_options(module.OPTIONS, values, "options")


def uneven(table):
    """Fewer answers at a token, a cell without a score, fits that failed, small groups."""
    table.loc[table["token"] == "-8", ["n", "gain_low"]] = 900, -0.1
    table.loc[(table["token"] == "-8") & (table["layer"] == 0), "mean"] = np.nan
    within = table["control"] == "shuffled_within_group"
    table.loc[within, "within_group"] = np.where(table.loc[within, "layer"] > 1, 0.53, 0.8)
    return table.assign(unconverged=1)


def without(*controls, groups=7):
    return lambda table: table[~table["control"].isin(controls)].assign(groups=groups)


def heads(change=lambda table: table, without=(), **protocol):
    protocol = PRESETS["strict"].changed(site="head", **protocol).plain()
    table = change(drawn_figures.head_scores(4, 3, without))
    values = {**ProbeHeads(token="last_q").plain(), "protocol": protocol}
    return heads_figure, table, read_options(heads_figure.OPTIONS, values, "options")


def presets():
    tables = [
        drawn_figures.probe_scores(3, TOKENS["published"]).assign(preset=preset, unconverged=count)
        for preset, count in (("strict", 0), ("published", 4), ("published_output", 5))
    ]
    tables[1]["mean"] -= 0.05
    options = {"metric": "auc", "palette": "Blues", "limits": [0.5, 1.0]}
    options["protocols"] = {name: protocol.plain() for name, protocol in PRESETS.items()}
    return presets_figure, pd.concat(tables), read_options(presets_figure.OPTIONS, options, "o")


def module_map(metric, notes=None, values=None, **changes):
    values = np.linspace(0.1, 2, 8).reshape(4, 2) if values is None else np.array(values)
    table = pd.DataFrame(
        [
            (layer, name, metric, value)
            for layer, row in enumerate(values)
            for name, value in zip(("attn. q", "attn. k"), row, strict=True)
        ],
        columns=["layer", "projection", "metric", "value"],
    )
    options = ModuleMap(compare_with="base").changed(**changes).of_metric(metric)
    return module_figure, table if notes is None else table.assign(note=notes), options


def grey():
    values = [[0.1, 0.2], [0.3, np.nan], [np.nan, np.nan], [0.2, 0.1]]
    notes = ["", "", "", "its weights are zero", *["the layer has none"] * 2, "", ""]
    return module_map("relative_update", notes, values)


def choices(layers=None):
    claims = check_claims({"claims": {"files": []}}, Path("config", "claims.yaml").resolve())
    about = [claim for claim in claims if claim.figure in ("mean_qkv", "scale_qkv")]
    states = [planted.states(index, [planted.sink(14)]) for index in (1, 2, 3)]
    figures = {name: AttentionFigure(operation=name[:-4]) for name in ("mean_qkv", "scale_qkv")}
    asked = ChoicesScoring(over=["features"], stage=["after_rotary"], scope=["layer"],
                           layer=["auto"], head=["mean"])  # fmt: skip
    table = evaluate_choices(about, asked, figures, states, {})
    return choices_figure, table.assign(model_layers=layers or 1), ChoicesDrawing()


def sinks(tokens=6, change=lambda states: states):
    random = np.random.default_rng(0)
    states = [
        LayerStates(
            text, layer, random.normal(size=(2, 4 + text, 4)), random.normal(size=(1, 4 + text, 4)),
            0.5, value_norm=random.uniform(1, 2, size=(1, 4 + text)), model_layers=3,
        )
        for text in (1, 2) for layer in range(3)
    ]  # fmt: skip
    options = SinkMap(tokens=tokens)
    return sink_figure, score_sinks(change(states), options), options


def uneven_sinks(states):
    """A layer without attention, one with a head fewer, a window and a sink that is no token."""
    kept = [one for one in states if one.layer != 1]
    for place, one in enumerate(kept):
        if one.layer == 2:
            kept[place] = replace(one, query=one.query[:1], window=2, sinks=np.zeros(1))
    return kept


CASES = {
    "mean_qkv": lambda: attention("mean_qkv"),
    "scale_qkv": lambda: attention("scale_qkv"),
    "attention in bins": lambda: attention("mean_qkv", bins=4),
    "attention with a sink": lambda: attention("mean_qkv", rest=0.1),
    "attention of a hybrid": hybrid,
    "sink_map": sinks,
    "sink_map of long texts": lambda: sinks(tokens=4),
    "sink_map of a text": lambda: sinks(change=lambda states: states[:3]),
    "sink_map uneven": lambda: sinks(change=uneven_sinks),
    "probe_auc": lambda: probe(probe_figure, ProbeAuc),
    "probe_auc uneven": lambda: probe(probe_figure, ProbeAuc, uneven, C=0.5, repeats=3),
    "probe_auc without scores": lambda: probe(
        probe_figure, ProbeAuc, lambda table: table.assign(mean=np.nan), solver="lbfgs"
    ),
    "probe_auc chosen": lambda: probe(probe_figure, ProbeAuc, drawn_figures.with_nested),
    "probe_auc chosen once": lambda: probe(
        probe_figure, ProbeAuc, drawn_figures.with_nested, split="single", folds=1
    ),
    "probe_auc of a repeated control": lambda: probe(
        probe_figure, ProbeAuc, drawn_figures.with_details
    ),
    "probe_auc of a repeated control, once": lambda: probe(
        probe_figure, ProbeAuc, drawn_figures.with_details, split="single", folds=1
    ),
    "probe_best": lambda: (best_figure, planted_best.make_table(), ProbeBest()),
    "probe_best without groups": lambda: (
        best_figure, planted_best.make_table(groups=()), ProbeBest()
    ),
    "probe_best without a choice": lambda: (
        best_figure, planted_best.make_table(chosen=False), ProbeBest()
    ),
    "probe_best of small groups": lambda: (
        best_figure, planted_best.make_table(groups=(None, None)), ProbeBest()
    ),
    "probe_auc of groups": lambda: probe(probe_figure, ProbeAuc, split="group_folds"),
    "probe_auc of small groups": lambda: probe(
        probe_figure, ProbeAuc, without("shuffled_within_group", "p_true")
    ),
    "probe_auc without groups": lambda: probe(
        probe_figure, ProbeAuc, without("shuffled_within_group", "group_only", groups=1)
    ),
    "probe_curves": lambda: probe(curves_figure, ProbeCurves),
    "probe_curves uneven": lambda: probe(curves_figure, ProbeCurves, uneven),
    **{
        f"probe_auc of {kind}": lambda kind=kind: probe(
            probe_figure, ProbeAuc, kind=kind, **dict.fromkeys(OF_LOGISTIC)
        )
        for kind in ("mean_difference", "lda", "mlp")
    },
    "probe_heads": heads,
    "probe_heads of a hybrid": lambda: heads(without=(0, 2)),
    "probe_heads of few controls": lambda: heads(
        without("shuffled_within_group", "group_only", "p_true", groups=1), C="cv"
    ),
    "probe_heads without scores": lambda: heads(lambda table: table.assign(mean=np.nan)),
    "probe_presets": presets,
    **{f"module_map of {metric}": lambda name=metric: module_map(name) for metric in METRICS},
    "module_map in its range": lambda: module_map("output_rms", limits="data", centre=1),
    "module_map with grey cells": grey,
    "module_map without values": lambda: module_map(
        "update_effective_rank", values=[[np.nan] * 2] * 3
    ),
    "error_kinds": resampled.plant_kinds,
    "error_kinds of few": lambda: resampled.plant_kinds(probed=()),
    "answer_choice": resampled.plant_choice,
    "answer_choice of few": lambda: resampled.plant_choice(("right_always",), ()),
    "choices": choices,
    "choices of a hybrid": lambda: choices(12),
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_the_clone(root, monkeypatch):
    monkeypatch.chdir(root)


@pytest.mark.parametrize("case", CASES)
def test_every_number_of_a_caption_is_stated(case):
    module, table, options = CASES[case]()
    text, stated = make_caption(module, table, MODEL, options, "scores.parquet")
    numbers = stated["numbers"]
    # the caption is the template with the printed form of each number in its place
    assert MARK.sub(lambda mark: numbers[mark[1]]["text"], stated["caption"]) == text
    assert text == module.describe(table, MODEL, options)
    rest = MARK.sub("", stated["caption"])
    for phrase in sorted(stated["constants"], key=len, reverse=True):
        assert phrase in rest
        rest = rest.replace(phrase, "")
    assert not re.search(r"\d", rest), rest
    used = set(MARK.findall(stated["caption"]))
    assert used or case in ("probe_curves", "module_map without values")
    assert DASH not in {numbers[name]["text"] for name in used}


@pytest.mark.parametrize("case", CASES)
def test_a_number_that_is_a_columns_value_is_found_in_the_named_rows(case):
    module, table, options = CASES[case]()
    _, stated = make_caption(module, table, MODEL, options, "scores.parquet")
    for name, number in stated["numbers"].items():
        if number["column"] is None or number["value"] is None:
            continue
        rows = table
        for column, value in number["row"].items():
            rows = rows[rows[column] == value]
        assert rows[number["column"]].unique().tolist() == [number["value"]], name


@pytest.mark.parametrize("case", ["probe_auc", "probe_auc uneven", "probe_curves", "probe_presets"])
def test_counts_follow_from_the_named_rows_by_their_formula(case):
    """As a reader with nothing but numbers.json and the table would find them."""
    kinds = {
        r"largest (\w+).*": lambda rows, column: rows.loc[rows["mean"].notna(), column].max(),
        r"number of rows.* with a value of (\w+)": lambda rows, column: rows[column].notna().sum(),
        r"number of rows.* with (\w+) above 0": lambda rows, column: (rows[column] > 0).sum(),
        r"sum of (\w+)": lambda rows, column: rows[column].sum(),
        r"minimum of (\w+)": lambda rows, column: rows[column].min(),
        r"maximum of (\w+)": lambda rows, column: rows[column].max(),
    }
    module, table, options = CASES[case]()
    # of another metric and another token, which the figure does not show
    others = [table.assign(metric="f1", n=5000), table[table["token"] == "-8"].assign(token="-9")]
    table = pd.concat([table, *others], ignore_index=True)
    _, stated = make_caption(module, table, MODEL, options, "scores.parquet")
    checked = set()
    for name, number in stated["numbers"].items():
        for pattern, compute in kinds.items():
            found = re.fullmatch(pattern, number["formula"])
            if found is None or number["value"] is None:
                continue
            rows = table
            for column, value in number["row"].items():
                rows = rows[rows[column].isin(value if isinstance(value, list) else [value])]
            if "layers above 0" in number["formula"]:
                rows = rows[rows["layer"] > 0]
            assert compute(rows, found[1]) == number["value"], name
            checked.add(name)
    assert len(checked) >= {"probe_auc": 7, "probe_presets": 4}.get(case, 3)


@pytest.mark.parametrize("metric", ["auc", "f1"])
def test_captions_say_by_what_the_cell_was_chosen(metric):
    def change(table):
        table = drawn_figures.with_nested(table)
        return table.assign(metric=table["metric"].str.replace("auc", metric))

    module, table, options = probe(probe_figure, ProbeAuc, change)
    options = options.model_copy(update={"metric": metric})
    text = module.describe(table, MODEL, options)
    assert ("chosen by AUC anew" in text) == (metric == "f1")
    assert ("chosen anew" in text) == (metric == "auc")


def test_names_stay_when_values_and_their_order_change():
    """Macros are named after these, so an author's document goes on compiling."""
    for case, changed in (
        ("mean_qkv", "attention with a sink"),
        ("mean_qkv", "attention in bins"),
        ("sink_map", "sink_map uneven"),
        ("probe_auc", "probe_auc uneven"),
        ("probe_auc", "probe_auc without scores"),
        ("probe_auc", "probe_auc without groups"),
        ("probe_auc", "probe_auc chosen"),
        ("probe_best", "probe_best without groups"),
        ("probe_best", "probe_best without a choice"),
        ("module_map of output_rms", "module_map without values"),
        ("module_map of output_rms", "module_map in its range"),
        ("error_kinds", "error_kinds of few"),
        ("answer_choice", "answer_choice of few"),
        ("choices", "choices of a hybrid"),
    ):
        names = [
            list(make_caption(module, table, MODEL, options, "s")[1]["numbers"])
            for module, table, options in (CASES[case](), CASES[changed]())
        ]
        assert names[0] == names[1], changed
        assert len(names[0]) > 3


def test_numbers_that_are_missing_are_printed_as_a_dash():
    module, table, options = CASES["probe_auc without scores"]()
    _, stated = make_caption(module, table, MODEL, options, "s")
    missing = {name for name, number in stated["numbers"].items() if number["value"] is None}
    assert {
        "nested_score",
        "highest_token",
        "nested_group_only_gain_low",
        "-8_highest_layer",
    } <= missing
    assert {stated["numbers"][name]["text"] for name in missing} == {DASH}
