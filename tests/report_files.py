"""Everything a report is made from, drawn for real from invented scores."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from drawn_figures import with_intervals
from llm_figures.attention import figure as attention_figure
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionFigure
from llm_figures.attention.scores import compute_cells
from llm_figures.claims.evaluation import COLUMNS as COLUMNS_OF_CLAIMS
from llm_figures.claims.figures import ATTENTION_FIGURES
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as module_figure
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import render
from llm_figures.plotting.style import Style
from llm_figures.probe import curves_figure
from llm_figures.probe import figure as probe_figure
from llm_figures.probe.controls import CONTROLS
from llm_figures.probe.protocol import PRESETS
from llm_figures.workflow.config import Config
from llm_figures.workflow.figures import FIGURES, list_figures

MODEL = "tiny"
TOKENS = ["last_q", "exact_answer_last", "-1"]
LAYERS = 5
STYLE = Style().changed(dpi=100)
HOSTILE = '<script>alert("1")</script> & w < 0.5'
PROTOCOL = {"protocol": PRESETS["strict"].plain()}
KINDS = ("pdf", "svg", "png")


def probe_scores() -> pd.DataFrame:
    """Scores of five layers and three tokens, of which one cell is empty; best at layer 2, -1."""
    random = np.random.default_rng(0)
    rows = [
        (layer, token, metric, random.uniform(0.5, 0.8), control)
        for layer in range(LAYERS)
        for token in TOKENS
        for metric in ("auc", "f1")
        for control in ("none", *CONTROLS)
    ]
    table = pd.DataFrame(rows, columns=["layer", "token", "metric", "mean", "control"])
    probe = table["control"] == "none"
    best = (table["layer"] == 2) & (table["token"] == "-1")
    table.loc[probe & best, "mean"] = 0.87654
    table.loc[probe & (table["layer"] == 0) & (table["token"] == "last_q"), "mean"] = np.nan
    table = with_intervals(table)
    table.loc[best & (table["control"] == "group_only"), "gain_low"] = -0.01
    return table


def module_scores() -> pd.DataFrame:
    """Scores of six layers and all projections."""
    random = np.random.default_rng(1)
    rows = [
        (layer, projection, "operation_strength", random.uniform(0.02, 0.1))
        for layer in range(6)
        for projection in PROJECTIONS
    ]
    return pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])


WORDS = ["The", " lamp", " was", "</b>", " lit", " again", "."]


def cells(figure: str, options: dict) -> pd.DataFrame:
    """Attention cells of three inputs of seven tokens, whose names only mean_qkv knows."""
    random, shape = np.random.default_rng(2), (2, 7, 4)
    tokens = WORDS if figure == "mean_qkv" else []
    states = [
        LayerStates(
            index, 0, random.normal(size=shape), random.normal(size=shape), 0.5, tokens=tokens
        )
        for index in (1, 2, 3)
    ]
    return compute_cells(figure, read_options(AttentionFigure, options, figure), states)


# Of a claim that could have failed.
KINDS_OF_REFERENCES = {
    "random_rows": {"held": 42, "of": 100},
    "random_weights": {"held": 8, "of": 25},
}


def claims() -> pd.DataFrame:
    """Four claims about each figure, with values that sort otherwise.

    One of each verdict, and one that is decided by construction.
    """
    rows = []
    for n, figure in enumerate((*ATTENTION_FIGURES, "probe_auc", "module_map")):
        attention = figure in ATTENTION_FIGURES
        rows += [
            {
                "claim": "first",
                "statement": f"The first claim about {figure}, in many words. " * 3,
                "source": "Figure 2",
                "comparison": ">=",
                "threshold": 0.5,
                "value": 0.8 + n / 100,
                "low": 0.75,
                "high": 0.9,
                "spread": "range over 3 inputs",
                "units": 3,
                "held": 2,
                "heads": 9 if attention else None,
                "held_heads": 7 if attention else None,
                "references": 125,
                "held_references": 50,
                "references_by_kind": json.dumps(KINDS_OF_REFERENCES if attention else {}),
                "decided": False,
                "verdict": "reproduced",
            },
            {
                "claim": "second",
                "statement": HOSTILE,
                "comparison": "within",
                "threshold": 0.1,
                "threshold_high": 0.25,
                "value": 0.02,
                "low": -0.01,
                "high": 0.03,
                "verdict": "not reproduced",
            },
            {
                "claim": "third",
                "statement": "What this model cannot tell.",
                "source": "Section 4",
                "comparison": "<",
                "threshold": 1e-3,
                "verdict": "not applicable",
                "reason": "the model has a single layer",
            },
            {
                "claim": "fourth",
                "statement": "What no data can contradict.",
                "source": "Section 5",
                "comparison": "<=",
                "threshold": 1,
                "value": 0.1,
                "references": 125,
                "held_references": 124,
                "decided": True,
                "verdict": "reproduced",
            },
        ]
        for row in rows[-4:]:
            row.update(model=MODEL, figure=figure, statistic="distance")
    columns = list(COLUMNS_OF_CLAIMS)
    return pd.DataFrame(rows, columns=columns)


def choices() -> pd.DataFrame:
    """Three combinations: of four claims the last reproduces most."""
    combinations = [
        ("mean", "features", "after_rotary", "layer", 1, "auto", "mean", "mean", "ynyn"),
        ("mean", "tokens", "before_rotary", "layer", 0, "0", "1", "auto", "nnn-"),
        ("scale", None, "after_rotary", "model", 1, "auto", "mean", "mean", "yyy-"),
    ]
    words = {"y": "reproduced", "n": "not reproduced", "-": "not applicable"}
    columns = ["operation", "over", "stage", "scope", "layer", "layer_choice", "head",
               "head_choice", "claim", "value", "verdict"]  # fmt: skip
    rows = [
        (*keys, f"claim_{n}", 0.5, words[verdict])
        for *keys, verdicts in combinations
        for n, verdict in enumerate(verdicts)
    ]
    return pd.DataFrame(rows, columns=columns)


RUN_ON = {"device": "cpu", "dtype": "float32", "cuda": None}
MANIFEST = {
    "format": 1,
    "project": {
        "name": "llm-figures",
        "version": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "uncommitted_changes": True,
    },
    "model": {
        "name": MODEL,
        "revision": "abc",
        "weights": {"model.safetensors": "ab" * 32},
        "entry": {"file_sha256": "cd" * 32},
    },
    "config": {"model": MODEL, "dataset": {"source": "path", "path": "mine.csv"}},
    "written_with": {
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "packages": {"torch": "2.0", "numpy": "2.1"},
    },
    "stages": {
        "generate_answers": {
            "jobs": 2,
            "seconds": 75.2,
            "max_memory_mb": 1900.0,
            "ran_on": [{**RUN_ON, "files": ["forward/generations/0-of-1.parquet"]}],
        },
        "score_modules": {"jobs": 1, "seconds": 0.4, "max_memory_mb": 40.0},
    },
    "files": {
        "probe/scores.parquet": {
            "sha256": "ef" * 32,
            "bytes": 12,
            "made_by": "collect_probe_scores",
        }
    },
}


def figure_options(root: Path) -> dict:
    """The default config's options of the figures."""
    config = yaml.safe_load((root / "config" / "config.yaml").read_text())
    return read_options(Config, config, "config").figures.plain()


def make(folder: Path, root: Path) -> dict:
    """Draw the figures, write the tables below `folder`; the arguments of `build_report.main`."""
    figures = figure_options(root)
    module_map = ModuleMap.model_validate(figures["module_map"])
    probe = {**figures["probe_auc"], "tokens": TOKENS, "highlight": None, **PROTOCOL}
    curves = {**figures["probe_curves"], "tokens": TOKENS, **PROTOCOL}
    tables = {name: cells(name, figures[name]) for name in ATTENTION_FIGURES}
    tables |= {"probe_auc": probe_scores(), "module_map": module_scores()}
    drawn = {
        **{name: (attention_figure, figures[name]) for name in ATTENTION_FIGURES},
        "probe_auc": (probe_figure, probe),
        "module_map": (module_figure, module_map.of_metric("operation_strength").plain()),
        "probe_curves": (curves_figure, curves),
    }
    data, files = {}, []
    for name, (module, options) in drawn.items():
        if name in tables:
            data[name] = str(folder / f"{name}.parquet")
            write_frame(tables[name], data[name])
        made = [str(folder / f"{name}.{kind}") for kind in (*KINDS, "caption.txt")]
        panels = str(folder / f"{name}.panels.json")
        render(
            module,
            scores=data.get(name, data.get("probe_auc")),
            files=made[:3],
            caption=made[3],
            model=MODEL,
            options=options,
            style=STYLE,
            panels=panels,
        )
        files += [*made, panels]
    write_frame(claims(), folder / "claims.parquet")
    write_frame(choices(), folder / "choices.parquet")
    for kind in (*KINDS, "caption.txt", "panels.json"):
        copy = folder / f"choices.{kind}"
        copy.write_bytes((folder / f"probe_curves.{kind}").read_bytes())
        files.append(str(copy))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return {
        "model": MODEL,
        "figures": files,
        "scores": data,
        "shown": {figure: list(list_figures(figure)) for figure in FIGURES},
        "claims": [str(folder / "claims.parquet")],
        "manifest": str(folder / "manifest.json"),
        "template": [
            str(root / "workflow" / "report" / f"report.{kind}")
            for kind in ("html.j2", "css", "js")
        ],
        "report": str(folder / "report.html"),
        "options": {**figures, "probe_auc": probe},
        "choices": str(folder / "choices.parquet"),
    }
