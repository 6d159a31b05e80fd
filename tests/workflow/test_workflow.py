"""The workflow as a user runs it, on a tiny random model: real jobs, real files."""

import hashlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import tiny
from documented import find_differences
from llm_figures import Results
from llm_figures.claims.figures import FIGURES
from llm_figures.probe.best_cell import (
    BRIER,
    CALIBRATION_ERROR,
    DETAILS,
    OFF_OPTION,
    OTHER_WRONG,
    SLOPE,
)
from llm_figures.probe.protocol import OUTPUT_AND_GROUP, OUTPUT_BASELINES
from llm_figures.probe.token_positions import NAMED_TOKENS
from llm_figures.workflow.figures import FIGURE_TABLE
from project import OTHER_MODEL, Project

pytestmark = pytest.mark.workflow


def test_all_five_figures_are_made(made):
    for figure in [*FIGURES, "probe_curves"]:
        for kind in ("pdf", "svg", "png", "caption.txt"):
            assert (made.results / "figures" / f"{figure}.{kind}").stat().st_size > 100
    for figure in FIGURES:
        notes = json.loads((made.results / "figures" / f"{figure}.panels.json").read_text())
        assert notes["panels"][0]["values"]


def test_files_have_the_columns_that_others_rely_on(made):
    def columns(path):
        return pq.read_schema(made.results / path).names

    assert {"input", "layer", "query", "key", "scaling", "mask", "tokens", "stage", "cos",
            "sin", "pair_index"} <= set(
        columns("forward/attention_states.parquet")
    )  # fmt: skip
    states = pq.read_schema(made.results / "forward/attention_states.parquet")
    longest = max(
        map(
            len,
            pq.read_table(made.results / "forward/attention_states.parquet")["tokens"].to_pylist(),
        )
    )
    assert list(states.field("query").type.shape) == [4, longest, 12]
    assert list(states.field("key").type.shape) == [2, longest, 12]
    assert {"question", "aliases", "group", "answer", "answer_ids", "correct", "valid",
            "exact_answer", "span_start", "problem", "hold_out"} <= set(
        columns("forward/answers.parquet")
    )  # fmt: skip
    hidden = "forward/hidden_states/residual/0-of-1.parquet"
    assert columns(hidden)[3:] == [f"layer_{layer:02d}" for layer in range(4)]
    tokens = set(pq.read_table(made.results / hidden, columns=["token"])["token"].to_pylist())
    # the tiny model rarely ends an answer by itself
    assert set(NAMED_TOKENS) - {"stop"} <= tokens <= set(NAMED_TOKENS)
    cells = pd.read_parquet(made.results / "attention/scale_qkv.parquet")
    assert {"figure", "panel_row", "panel_column", "component", "epsilon", "scope",
            "stage", "layer", "head", "query_position", "key_position", "weight"
            } <= set(cells)  # fmt: skip
    assert sorted(cells["epsilon"].unique()) == [1e-10, 1e-3, 0.5]
    scores = pd.read_parquet(made.results / "probe/scores.parquet")
    assert {"layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "n_train",
            "n_test", "folds", "n", "gain", "unconverged", "groups", "within_group",
            } <= set(scores)  # fmt: skip
    metrics = {"auc", "accuracy", "f1", "average_precision"}
    of_cells = metrics | {"raw_auc"}
    assert set(scores["metric"]) == {*of_cells, *(f"nested_{name}" for name in of_cells),
            *{*DETAILS} - {OFF_OPTION, OTHER_WRONG}}  # fmt: skip
    assert set(scores["control"]) == {"none", "shuffled_labels", "shuffled_within_group",
            "embeddings", "group_only", *OUTPUT_BASELINES, "chosen", "chosen_of_token"
            }  # fmt: skip
    report = (made.results / "forward/answers.md").read_text()
    assert "- questions: 120" in report
    assert report.count("⟦") >= 10
    assert sorted(scores["layer"].unique()) == [-1, 0, 1, 2, 3]  # -1: chosen in every fold
    modules = pd.read_parquet(made.results / "modules/scores.parquet")
    assert len(modules) == 3 * 7
    assert modules["value"].between(0, 1).all()


def test_every_column_is_documented(author):
    assert find_differences(author.results) == {}


def test_every_job_leaves_a_log_and_a_benchmark(made):
    logs = {
        path.relative_to(made.results / "logs").with_suffix("")
        for path in (made.results / "logs").rglob("*.log")
    }
    benchmarks = {
        path.relative_to(made.results / "benchmarks").with_suffix("")
        for path in (made.results / "benchmarks").rglob("*.tsv")
    }
    assert logs == benchmarks
    assert len(logs) == 28
    text = (made.results / "logs/score_attention/mean_qkv.log").read_text()
    assert re.search(r"layer \d+ \(the strongest sink\)", text)
    assert (
        "120 of 120 questions"
        in next((made.results / "logs/generate_answers").iterdir()).read_text()
    )
    benchmark = (made.results / "benchmarks/score_probes/scores/0-of-1.tsv").read_text()
    assert "max_rss" in benchmark


def test_every_figure_is_a_target(project):
    project.planned(*FIGURE_TABLE)


def test_a_figure_is_a_target_of_its_own(project):
    project.change(style__font_size=10)
    assert project.planned("scale_qkv") == {"render_figure": 1}
    project.run("scale_qkv")
    assert project.planned("scale_qkv") == {}
    code, output = project.run("verify", check=False)
    assert code == 1
    named = re.findall(r"^  (figures/\S+): changed \(made by render_figure\)", output, re.M)
    kinds = ("pdf", "svg", "png", "panels.json")
    assert set(named) == {f"figures/scale_qkv.{kind}" for kind in kinds}
    assert (
        ", and so do options of this run (style.font_size); to make files and manifest with these: "
        "snakemake figures --configfile overlay.yaml; to keep the manifest's, "
    ) in output
    assert project.planned("module_map") == {"render_figure": 1}


def test_the_manifest_lists_what_was_made_and_verify_finds_a_changed_byte(project):
    written = json.loads((project.results / "manifest.json").read_text())
    made = {
        path.relative_to(project.results).as_posix(): path
        for path in [*project.results.rglob("*.parquet"), *project.results.glob("figures/*")]
    }
    # Parquet files; six figures in three formats, with caption, numbers and panels
    assert len(made) == 21 + 6 * 6
    pages = {"forward/answers.md", "claims.md"}
    assert written["files"].keys() == made.keys() | pages
    for name, path in made.items():
        assert written["files"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert written["files"][name]["bytes"] == path.stat().st_size
    # A rule that `find_stages` did not find would leave its files without a maker.
    logged = {path.name.removesuffix(".log") for path in (project.results / "logs").iterdir()}
    assert written["stages"].keys() == logged - {"write_manifest"}
    makers = {file["made_by"] for file in written["files"].values()}
    assert makers == logged - {"write_manifest", "prepare_model"}
    ran_on = {rule: stage["ran_on"] for rule, stage in written["stages"].items()
              if "ran_on" in stage}  # fmt: skip
    assert ran_on.keys() == {"extract_attention_states", "generate_answers",
                             "extract_hidden_states", "ask_p_true", "measure_modules"}  # fmt: skip
    assert {kind["attention"] for (kind,) in ran_on.values()} == {"sdpa"}
    assert written["config"]["prompt"]["max_new_tokens"] == 12
    weights = (project.folder / "tiny-model" / "model.safetensors").read_bytes()
    assert written["model"]["weights"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert str(project.folder.parent.parent) not in json.dumps(written)

    _, output = project.run("verify", "--config", "style={font_size: 10}")
    assert f"{len(made) + 2} files agree with results/tiny/manifest.json" in output
    assert "options of this run differ from the manifest's: style.font_size\n" in output
    _, output = project.run("verify")
    assert "options of this run" not in output
    path = project.results / "modules/scores.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, output = project.run("verify", check=False)
    assert code == 1
    assert (
        f"verify: error: 1 of {len(made) + 2} files differ from results/tiny/manifest.json"
        in output
    )
    again = "snakemake figures --configfile overlay.yaml"
    assert f"; to make a file again: {again} --forcerun RULE; if " in output
    assert "modules/scores.parquet: changed (made by score_modules)" in output
    assert "Traceback" not in output
    (project.results / "manifest.json").unlink()
    code, output = project.run("verify", check=False)
    assert code == 1
    assert f"results/tiny/manifest.json is missing; run: {again}\n" in output
    assert not (project.results / "manifest.json").exists()


def test_another_model_lives_beside_the_first(project):
    tiny.save(project.folder / "other-model", **OTHER_MODEL)
    project.change(model_sources__other={"source": "path", "path": "other-model"})
    project.run("--config", "model=other", "--", "mean_qkv", "module_map")
    other = project.folder / "results" / "other" / "figures"
    assert {path.stem for path in other.glob("*.svg")} == {"mean_qkv", "module_map"}
    assert (project.results / "figures" / "mean_qkv.svg").exists()


def test_scope_model_differs_from_scope_layer_but_not_in_the_first_layer(project):
    figures = [f"{name}__{key}" for name in ("mean_qkv",) for key in ("layer", "scope")]
    for layer, same in ((0, True), (2, False)):
        found = []
        for scope in ("layer", "model"):
            project.change(
                **dict(zip([f"figures__{f}" for f in figures], (layer, scope), strict=True))
            )
            project.run("results/tiny/attention/mean_qkv.parquet")
            cells = pd.read_parquet(project.results / "attention/mean_qkv.parquet")
            found.append(cells["weight"].to_numpy())
        assert bool(abs(found[0] - found[1]).max() < 1e-5) is same


def test_a_change_before_rotary_embedding_is_the_same_from_the_cache_and_in_a_pass(project):
    found = {}
    for stage in ("after_rotary", "before_rotary"):
        for scope in ("layer", "model"):
            project.change(
                figures__mean_qkv_tokens__layer=0,
                figures__mean_qkv_tokens__stage=stage,
                figures__mean_qkv_tokens__scope=scope,
            )
            project.run("results/tiny/attention/mean_qkv_tokens.parquet")
            cells = pd.read_parquet(project.results / "attention/mean_qkv_tokens.parquet")
            assert cells["stage"].unique() == [stage]
            found[stage, scope] = cells["weight"].to_numpy()
    # In the first layer, what was changed in the others does not show.
    assert abs(found["before_rotary", "layer"] - found["before_rotary", "model"]).max() < 1e-5
    assert abs(found["before_rotary", "layer"] - found["after_rotary", "layer"]).max() > 0.01
    project.run("results/tiny/figures/mean_qkv_tokens.caption.txt")
    caption = (project.results / "figures/mean_qkv_tokens.caption.txt").read_text()
    assert "before rotary embedding" in caption
    path = project.results / "forward/intervened_states/mean_qkv_tokens.parquet"
    intervened = pq.read_table(path)
    assert set(intervened["stage"].to_pylist()) == {"before_rotary"}


def test_a_rotary_embedding_that_cannot_be_undone_is_refused_before_it(project):
    tiny.save(project.folder / "latent", family="deepseek")
    project.change(
        model="latent",
        model_sources__latent={"source": "path", "path": "latent"},
        figures__mean_qkv__stage="before_rotary",
    )
    for scope in ("layer", "model"):
        project.change(figures__mean_qkv__scope=scope)
        code, output = project.run("mean_qkv", check=False)
        assert code != 0
        line = "config: figures.mean_qkv.stage: before_rotary: the rotary embedding of layer "
        assert line in output
        assert "Traceback" not in output


def test_a_lost_shard_is_all_that_is_made_again(project):
    project.change(shards=3)
    target = "results/tiny/probe/predictions/scores/0-of-1.parquet"
    project.run(target)
    # A run that was killed: one shard and what follows from it are not there.
    (project.results / "forward/hidden_states/residual/1-of-3.parquet").unlink()
    (project.folder / target).unlink()
    assert project.planned(target) == {"extract_hidden_states": 1, "score_probes": 1}


def test_held_out_questions_of_another_file(project):
    rows = (project.folder / "mine.jsonl").read_text().splitlines()
    shared = json.loads(rows[0]) | {"ask": "  what IS 0 and 1"}
    broken = json.loads(rows[1]) | {"gold": [None]}
    train, test = rows[:60], [*rows[60:], json.dumps(shared), json.dumps(broken)]
    (project.folder / "mine.jsonl").write_text("\n".join(train))
    (project.folder / "test.jsonl").write_text("\n".join(test))
    project.change(dataset__hold_out="test.jsonl")
    project.run("probe_auc")
    scores = pd.read_parquet(project.results / "probe/scores.parquet")
    shown = scores[(scores["control"] == "none") & (scores["token"] == "last_q")]
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    valid = answers[answers["valid"]]
    assert (shown["n_train"] == (~valid["hold_out"]).sum()).all()
    assert (shown["n_test"] == valid["hold_out"].sum()).all()
    calibrated = shown["metric"].isin({SLOPE, CALIBRATION_ERROR, BRIER})
    assert shown.loc[~calibrated, "ci_low"].notna().all()
    left_out = pd.read_parquet(project.results / "forward/questions_left_out.parquet")
    assert left_out["reason"].tolist() == [
        "held out, but among the training questions too",
        "no answer",
    ]
    assert left_out["source"].tolist() == ["test.jsonl"] * 2
    assert "held-out ones" in (project.results / "figures/probe_auc.caption.txt").read_text()


def test_all_presets_side_by_side(project):
    project.run("probe_presets")
    assert find_differences(project.results) == {}
    scores = pd.read_parquet(project.results / "probe/presets.parquet")
    for preset, site in (("published", "mlp_input"), ("published_output", "mlp")):
        published = scores[(scores["preset"] == preset) & (scores["metric"] == "auc")]
        assert published["token"].nunique() == 15
        assert "shuffled_labels" not in set(published["control"])
        assert set(published.loc[published["mean"].notna(), "folds"]) == {1}
        assert (project.results / f"forward/hidden_states/{site}/0-of-1.parquet").exists()
    # The configured probe is the strict one: it is not fitted again.
    assert not (project.results / "probe/strict.parquet").exists()
    assert (project.results / "figures/probe_presets.svg").stat().st_size > 1000
    project.run("report")
    page = (project.results / "report.html").read_text()
    assert '<section id="probe_presets"' in page
    assert 'id="probe_presets-title">The Presets of the Probe Side by Side ' in page


def test_the_best_cell_is_tested_and_scored_by_group(project):
    project.change(figures__probe_best__permutations=20)
    project.run("probe_best")
    assert find_differences(project.results) == {}
    best = pd.read_parquet(project.results / "probe/best.parquet")
    assert (best["kind"] == "permuted").sum() == 20
    nested, highest = (
        best[(best["kind"] == kind) & (best["control"] == "none")].iloc[0]
        for kind in ("nested", "highest")
    )
    scores = pd.read_parquet(project.results / "probe/scores.parquet")
    chosen = scores[(scores["metric"] == "nested_auc") & (scores["control"] == "none")]
    assert chosen.set_index("token").loc["any", "mean"] == nested["value"]
    auc = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    assert auc["mean"].max() == highest["value"]
    groups = pd.read_parquet(project.results / "probe/groups.parquet")
    assert set(groups["layer"]) == {-1, *auc["layer"]}
    caption = (project.results / "figures/probe_best.caption.txt").read_text()
    assert "20 times" in caption
    assert (project.results / "claims/probe_best.md").exists()
    assert project.planned("probe_best") == {}
    project.change(figures__probe_best__palette="dark")
    assert "score_best_cell" not in project.planned("probe_best")
    # One group after the other: its answers are tested by probes of all the others.
    project.change(probe__split="groups")
    project.run("probe_auc")
    scores = pd.read_parquet(project.results / "probe/scores.parquet")
    used = pd.read_parquet(project.results / "forward/answers.parquet").query("valid")
    both = used.groupby("group")["correct"].nunique().eq(2).sum()
    shown = scores[(scores["control"] == "none") & (scores["token"] == "last_q")]
    assert set(shown.loc[shown["metric"] == "auc", "folds"]) == {both}
    states = Results(project.results).hidden_states(0, "last_q")
    assert len(states.splits) == used["group"].nunique() >= both
    assert (
        "one fold for each group" in (project.results / "figures/probe_auc.caption.txt").read_text()
    )


def test_the_model_quotes_its_own_answers(project):
    project.change(exact_answer__method="model", prompt__style="completion")
    project.run("results/tiny/forward/answers.parquet")
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    assert find_differences(project.results) == {}
    quotes = pd.read_parquet(project.results / "forward/quotes/0-of-1.parquet")
    assert len(quotes) == (answers["answer"].str.strip() != "").sum()
    for row in answers[answers["valid"]].itertuples():
        assert row.exact_answer
        assert row.exact_answer in row.answer
    assert set(answers.loc[~answers["valid"], "problem"]) <= {
        "the answer is empty",
        "the model quoted nothing",
        "the model's quote is not in its answer",
    }


# (right answer, the model's answer, exact answer, whether it is right)
JUDGED = [
    ("A. B. Carter", " A. B. Carter.", "A. B. Carter", True),
    ("A. B. Carter", " A.B. Carter. He wrote it.", "A.B. Carter", True),
    ("A. B. Carter", " AB Carter.", "AB Carter", True),
    ("Prof. Hill", " Prof. Hill. He taught.", "Prof. Hill", True),
    ("A", " A is the correct answer.", "A is the correct answer", True),
    ("B", " A is the correct answer.", "A is the correct answer", False),
    ("A", " The answer is A because it is largest.", "answer is A because it is largest", True),
    ("no", " No. Cats are not birds.", "No", True),
    ("no", " Yes. Cats are animals.", "Yes", False),
    ("Москва", " Москва", "Москва", True),
    ("北京", "北京。", "北京", True),
    ("Paris", " It is not Paris", "It is not Paris", False),
    ("7", " 7/8", "7/8", False),
    ("12", " 12:30", "12:30", False),
    ("3", " 3 million", "3 million", False),
    ("x + 1", " x - 1", "x - 1", False),
    ("-\\frac{1}{2}", " \\frac{1}{2}", "\\frac{1}{2}", False),
    ("7", " seven", "seven", True),
    ("0.5", " 1/2", "1/2", True),
    ("1000", " 1 000", "1 000", True),
    ("1000", " 1{,}000", "1{,}000", True),
    ("10 km", " 10 kilometers", "10 kilometers", True),
    ("4 July 1776", " July 4, 1776", "July 4, 1776", True),
    ("flower", " flowers", "flowers", True),
    ("Dutch language", " Dutch", "Dutch", True),
]


def test_answers_are_found_and_judged_as_a_person_would(project):
    rows = [
        {"ask": f"What is it, in case {n}?", "gold": gold, "said": answer}
        for n, (gold, answer, _, _) in enumerate(JUDGED)
    ]
    rows += [
        {
            "ask": "Is Mexico's capital Mexico?",
            "gold": "Mexico",
            "said": " Is Mexico's capital so?",
        },
        {"ask": "Who?", "gold": "Ada", "said": " I don't know."},
    ]
    (project.folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    project.change(
        dataset={"path": "mine.jsonl", "question": "ask", "answer": "gold", "response": "said"},
    )
    project.run("results/tiny/forward/answers.md")
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    found = [
        (row.answer, row.exact_answer, row.correct)
        for row in answers.head(len(JUDGED)).itertuples()
    ]
    assert found == [(answer, exact, right) for _, answer, exact, right in JUDGED]
    echo, abstained = answers.iloc[-2], answers.iloc[-1]
    assert not echo["correct"]
    assert abstained["abstained"]
    assert abstained["problem"] == "the answer abstains"
    for row in answers.head(len(JUDGED)).itertuples():
        # the first token of the exact answer holds its first byte
        inside = [n for n, end in enumerate(row.token_ends) if end > row.span_start]
        assert row.token_starts[inside[0]] <= row.span_start
        assert not np.isnan(row.exact_answer_log_probability)
    report = (project.results / "forward/answers.md").read_text()
    assert report.index("## Least certain judgements") < report.index("## Groups")


def test_another_model_judges_the_answers(project):
    shutil.copytree(project.folder / "tiny-model", project.folder / "judge-model")
    project.change(
        model_sources__judge={"source": "path", "path": "judge-model"},
        judge={"method": "model", "model": "judge"},
        exact_answer__method="line",
        prompt__style="completion",
    )
    target = "results/tiny/forward/answers.parquet"
    project.run(target)
    assert (project.folder / "results/judge/model.json").exists()
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    assert set(answers["problem"]) <= {
        "the answer is empty",
        "the judge says neither right nor wrong",
    }
    assert find_differences(project.results) == {}
    replies = pd.read_parquet(project.results / "forward/replies/0-of-1.parquet")
    located = answers[answers["exact_answer"] != ""]
    assert sorted(replies["question_id"]) == located["question_id"].tolist()
    # what the random model happens to say is taken for "right"
    words = replies["reply"].str.extract(r"^(\w+)", expand=False).dropna()
    word = words.mode()[0]
    project.change(judge__if_right=word)
    assert project.planned(target) == {"ask_judge": 1, "judge_answers": 1}
    project.run(target)
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    judged = answers[answers["valid"]]
    assert len(judged)
    assert judged["correct"].all()
    assert set(judged["judged_by"]) == {"model"}
    project.change(judge__model="nobody")
    code, output = project.run("--dry-run", target, check=False)
    assert code
    assert "judge.model: 'nobody'" in output


def test_answers_brought_along_are_read_and_none_is_generated(project):
    """30 right ones, 30 wrong ones, and two rows that cannot be used."""
    said = ["It is Москва.", "北京", " 42.", "No idea"]
    rows = [
        {"ask": f"What is {n} and {n + 1}?", "said": f"{said[n % 4]} {n}", "ok": n % 2 == 0}
        for n in range(60)
    ]
    rows += [{"ask": "Who?", "said": " ", "ok": True}]
    rows += [{"ask": "Why?", "said": "so " * 600, "ok": True}]
    (project.folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    project.change(
        dataset={"path": "mine.jsonl", "question": "ask", "answer": None, "label": "ok"},
        exact_answer__method="line",
        shards=2,
    )
    code, output = project.run("--dry-run", check=False)
    assert code
    assert "dataset.label: 'ok' judges answers that the file does not give" in output
    project.change(dataset__response="said")
    jobs = project.planned("figures")
    assert jobs["read_responses"] == 2
    assert "generate_answers" not in jobs
    target = "results/tiny/forward/answers.parquet"
    project.run(target)
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    assert len(answers) == 61
    read, long = answers[:60], answers.iloc[60]
    assert read["correct"].tolist() == [n % 2 == 0 for n in range(60)]
    assert read["valid"].all()
    assert not answers["cut"].any()
    tokenizer = tiny.tokenizer()
    for n, row in enumerate(read.itertuples()):
        space = "" if said[n % 4][0] in " 北" else " "
        assert row.answer == f"{space}{said[n % 4]} {n}"
        assert list(row.answer_ids) == tokenizer(row.answer)["input_ids"]
        assert row.exact_answer in row.answer
        assert len(row.token_log_probabilities) == len(row.answer_ids)
    assert "exceed the model's context of 512" in long["problem"]
    left_out = pd.read_parquet(project.results / "forward/questions_left_out.parquet")
    assert left_out["reason"].tolist() == ["no response"]
    # how answers would be generated is no matter
    project.change(prompt__max_new_tokens=40, prompt__temperature=1, prompt__stop=["x"])
    assert project.planned(target) == {}
    project.change(prompt__template="Question: {question}\nA:")
    assert project.planned(target) == {"read_responses": 2, "judge_answers": 1}


def test_a_question_too_long_for_the_model_is_left_out_and_named(project):
    rows = (project.folder / "mine.jsonl").read_text()
    long = json.dumps({"ask": "What is " + "one and " * 300 + "two?", "gold": "3", "kind": 0})
    (project.folder / "mine.jsonl").write_text(f"{rows}\n{long}")
    project.run("results/tiny/forward/answers.md")
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    assert len(answers) == 121
    last = answers.iloc[-1]
    assert not last["valid"]
    assert "exceed the model's context of 512" in last["problem"]
    assert "exceed the model's context of 512" in (
        project.results / "forward/answers.md"
    ).read_text().replace("\\", "")


def test_without_groups_the_group_controls_are_left_out(project):
    project.change(dataset__group=None)
    _, output = project.run("probe_auc")
    assert "the questions have no groups: no labels are shuffled within group" in output
    controls = set(pd.read_parquet(project.results / "probe/scores.parquet")["control"])
    outputs = {*OUTPUT_BASELINES} - {OUTPUT_AND_GROUP}
    others = {"none", "shuffled_labels", "embeddings", "chosen", "chosen_of_token"}
    assert controls == others | outputs
    caption = (project.results / "figures/probe_auc.caption.txt").read_text()
    assert "within group" not in caption
    assert "The questions have no groups (dataset.group), so that the group" in caption
    assert "No control explains" not in caption


def test_another_models_files_are_not_made_from_this_models_weights(project):
    code, output = project.run("results/other/figures/module_map.svg", "-n", check=False)
    assert code != 0
    line = "no rule makes results/other/figures/module_map.svg; models of this run: tiny"
    assert line in output.splitlines()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"figures__scale_qkv__epsilon": ["abc"]}, "config: figures.scale_qkv.epsilon[1]: 'abc'"),
        ({"figures__mean_qkv__layer": 3}, "figures.mean_qkv.layer: 3 is outside the model"),
        ({"figures__mean_qkv__head": 4}, "figures.mean_qkv.head: 4 is outside the model"),
        ({"figurs": 1}, "config: unknown key 'figurs'; did you mean figures?"),
        ({"model_sources__tiny__path": "gone"}, "config: model tiny: path: gone: no such folder"),
        ({"dataset__answer": "reply"}, "dataset.answer: mine.jsonl has no column 'reply'"),
        (
            {"figures__module_map__palette": "Bleus"},
            "config: figures.module_map.palette: 'Bleus' is not known",
        ),
        ({"style": {"font": "Comic"}}, "config: style.font: 'Comic' is not known to matplotlib"),
    ],
    ids=str,
)
def test_bad_input_ends_before_any_job_in_one_line(project, changes, message):
    project.change(**changes)
    code, output = project.run(check=False)
    assert code != 0
    lines = [line for line in output.splitlines() if message in line]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    assert "to run, about" not in output  # no job was started


@pytest.mark.parametrize(
    ("changes", "target", "message"),
    [
        ({"inputs": ["a"]}, "mean_qkv", "config: inputs[1]: 'a' has 1 token(s)"),
        ({"dataset__answer": "ask"}, "probe_auc", "dataset: 0 right and 120 wrong answers"),
        ({"prompt__style": "chat"}, "probe_auc", "tokenizer has no chat template"),
        (
            {"probe__p_true__if_true": " False or"},
            "probe_auc",
            "do not differ in a token of this model",
        ),
        ({"device": "cuda:99"}, "module_map", "config: device: 'cuda:99' cannot be used here"),
    ],
    ids=str,
)
def test_bad_input_met_by_a_job_is_one_line_and_loses_nothing(project, changes, target, message):
    before = set(project.results.rglob("*.parquet"))
    project.change(**changes)
    code, output = project.run(target, check=False)
    assert code != 0
    assert message in output
    assert "Traceback" not in output
    lost = before - set(project.results.rglob("*.parquet"))
    # at most what the failed job makes itself
    assert len(lost - {project.results / "forward/random_weights_states.parquet"}) <= 1, lost
    assert not list(project.results.rglob("*.partial"))


def test_a_figure_is_replaced_only_after_it_was_drawn(project):
    """A failed drawing leaves the earlier figure, and nobody takes that for the new one."""
    files = sorted(project.results.glob("figures/mean_qkv.*"))
    before = {path: path.read_bytes() for path in files}
    assert len(before) == 6
    project.change(figures__mean_qkv__palette="viridis", style={"width": "2.6cm"})
    code, output = project.run("mean_qkv", check=False)
    assert code != 0
    assert "render_figure: error: mean_qkv: at a width of " in output
    assert (
        "render_figure: results/tiny/figures/mean_qkv.pdf is still the one of the earlier run"
        in output
    )
    assert "Restored" not in output
    assert {path: path.read_bytes() for path in files} == before
    # it is to be drawn again as long as the config asks for another
    assert project.planned("mean_qkv") == {"render_figure": 1}
    project.overlay.pop("style")
    project.overlay["figures"]["mean_qkv"].pop("palette")
    assert project.planned("mean_qkv") == {}
    assert project.planned() == {}
    project.change(figures__mean_qkv__palette="viridis")
    project.run("mean_qkv")
    assert {path: path.read_bytes() for path in files} != before
    assert project.planned("mean_qkv") == {}


def test_a_killed_job_leaves_nothing_that_a_later_run_takes_for_whole(project):
    target = "results/tiny/forward/attention_states.parquet"
    output = project.folder / target
    project.change(inputs=[" ".join(tiny.TEXTS * 2)] * 64)
    process = subprocess.Popen(
        project.command(target),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(output.parent.glob(".attention_states*")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Killed in the middle of writing: what is there is not under the file's name.
    assert list(output.parent.glob(".attention_states.parquet.*.partial"))
    assert not output.exists()
    _, printed = project.run(target)
    assert f"removed the lock of process {process.pid} on " in printed
    assert len(pq.read_table(output)) == 64 * 3
    assert not list(output.parent.glob(".attention_states*"))


def test_a_truncated_intermediate_is_named(project):
    path = project.results / "attention/mean_qkv.parquet"
    path.write_bytes(path.read_bytes()[:100])
    project.change(figures__mean_qkv__palette="viridis")
    code, output = project.run("mean_qkv", check=False)
    assert code != 0
    assert "attention/mean_qkv.parquet cannot be read" in output
    assert "Traceback" not in output


def test_two_models_and_a_folder_side_by_side(project):
    """Every figure of a run's models, and the comparison with results made elsewhere."""
    alone, output = project.run("compare", check=False)
    assert alone != 0
    assert len([line for line in output.splitlines() if "needs at least two models: tiny" in line])
    assert "Traceback" not in output
    assert "Exception" not in output

    before = {path: path.stat().st_mtime_ns for path in project.results.rglob("*.parquet")}
    tiny.save(project.folder / "other-model", **OTHER_MODEL)
    elsewhere = project.folder / "elsewhere" / "big"
    shutil.copytree(project.results / "modules", elsewhere / "modules")
    project.change(
        models=["tiny", "other"],
        model_sources__other={"source": "path", "path": "other-model"},
        result_folders=["elsewhere/big/"],
    )
    compared = project.folder / "results" / "_models"
    targets = [f"results/_models/figures/{figure}.png" for figure in ("mean_qkv", "module_map")]
    project.run(*targets)
    figures = {path.name for path in (compared / "figures").iterdir()}
    kinds = ("pdf", "svg", "png", "caption.txt")
    assert figures == {f"{name}.{kind}" for name in ("mean_qkv", "module_map") for kind in kinds}
    svg = (compared / "figures/module_map.svg").read_text()
    assert all(f">{name}</text>" in svg for name in ("tiny", "other", "big"))
    caption = (compared / "figures/mean_qkv.caption.txt").read_text()
    assert "tiny, layer" in caption
    assert "other, layer" in caption
    missing = "elsewhere/big/attention/mean_qkv.parquet"
    assert caption.endswith(f"\nLeft out: {missing} is missing.\n")
    # The other model has layers of its own, and the first one's results were not touched.
    other = pd.read_parquet(project.folder / "results/other/modules/scores.parquet")
    assert set(other["layer"]) == {0, 1}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # A further model in the folder joins what can now be compared.
    assert project.planned(*targets) == {}
    shutil.copytree(project.results / "attention", elsewhere / "attention")
    assert project.planned(*targets) == {"render_comparison": 1}
    # All of both: of the first only its claims were missing.
    project.run("compare")
    assert {path.stem for path in (compared / "figures").glob("*.png")} == set(FIGURES)
    claims = pd.read_parquet(compared / "claims.parquet")
    assert list(claims["model"].unique()) == ["tiny", "other"]
    assert len(set(claims["figure"])) == 5
    assert "elsewhere/big/claims.parquet is missing" in (compared / "claims.md").read_text()
    assert project.planned("compare") == {}


@pytest.mark.parametrize("target", ["figures", "claims", "report", "choices", "verify", "compare"])
def test_without_a_model_a_target_says_so(tmp_path, root, target):
    """models: [] is for comparing folders alone; with one of them there is nothing to compare."""
    (tmp_path / "big" / "modules").mkdir(parents=True)
    (tmp_path / "big" / "modules" / "scores.parquet").touch()
    alone = Project(tmp_path, root, {"models": [], "result_folders": ["big"]})
    code, output = alone.run("--dry-run", target, check=False)
    assert code != 0
    assert "Traceback" not in output
    wanted = "config: models: []: no model to work on; only compare works with folders alone"
    if target == "compare":
        wanted = "compare needs at least two models: big (missing: big/claims.parquet, "
    assert len([line for line in output.splitlines() if line.startswith(wanted)]) == 1, output


def test_a_missing_package_is_named_with_the_environment(root, tmp_path):
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["pyarrow"] = None\n')
    project = Project(tmp_path, root, {})
    code, output = project.run("--dry-run", check=False, PYTHONPATH=str(tmp_path))
    assert code != 0
    (line,) = [line for line in output.splitlines() if "pyarrow" in line]
    assert line.startswith("the package pyarrow is not installed for ")
    assert "source .venv/bin/activate" in line
    assert "Traceback" not in output


def test_folders_are_compared_without_a_model(made, tmp_path):
    for name in ("one", "two"):
        for part in ("attention/mean_qkv.parquet", "modules/scores.parquet", "claims.parquet"):
            (tmp_path / name / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made.results / part, tmp_path / name / part)
    alone = Project(tmp_path, made.root, {"models": [], "result_folders": ["one", "two"]})
    alone.run("compare")
    compared = tmp_path / "results" / "_models"
    figures = {path.stem for path in (compared / "figures").glob("*.png")}
    assert figures == {"mean_qkv", "module_map"}
    assert list(pd.read_parquet(compared / "claims.parquet")["model"].unique()) == ["one", "two"]
    assert find_differences(compared) == {}


def test_a_guard_waits_for_the_claims_of_all_models(project):
    project.change(
        models=["tiny", "other"],
        model_sources__other={"source": "path", "path": "other-model"},
        claims__fail_on=["mean_qkv/mean-causal"],
    )
    tiny.save(project.folder / "other-model", **OTHER_MODEL)
    # Asked for one model's guard, the run makes the other's claims, too; its own are there.
    planned = project.planned("results/tiny/claims/guarded.txt")
    assert planned["guard_claims"] == 1
    assert planned["collect_claims"] == 1


def test_choices_and_the_report_that_shows_them(author):
    page = (author.results / "report.html").read_text()
    for name in (*FIGURES, "choices", "provenance"):
        assert f'id="{name}"' in page
    claims = pd.read_parquet(author.results / "claims.parquet")
    assert all(html.escape(text, quote=False) in page for text in claims["statement"].head(20))
    choices = pd.read_parquet(author.results / "choices.parquet")
    keys = ["operation", "over", "stage", "scope", "layer_choice", "head_choice"]
    combinations = choices[keys].drop_duplicates()
    # over × stage × scope × layer × head for the mean, without over for the scale
    assert combinations["operation"].value_counts().to_dict() == {"mean": 64, "scale": 32}
    # A factor commutes with the rotation, so before and after it are one.
    scaled = choices[choices["operation"] == "scale"].set_index([*keys, "layer", "head", "claim"])
    before, after = (scaled.xs(stage, level="stage") for stage in ("before_rotary", "after_rotary"))
    pd.testing.assert_series_equal(before["verdict"], after["verdict"])
    assert "| 0 of 32 |" in (author.results / "choices.md").read_text()
    assert author.planned("report") == {}


def test_claims_are_checked_added_and_guarded(project):
    claims = project.results / "claims.parquet"
    project.run("claims")
    built_in = yaml.safe_load((project.root / "config" / "claims.yaml").read_text())["claims"]
    found = pd.read_parquet(claims)
    assert list(zip(found["figure"], found["claim"], strict=True)) == [
        (figure, claim["id"])
        for figure in FIGURES
        for claim in built_in
        if figure in claim["figures"]
    ]
    verdicts = found.set_index(["figure", "claim"])["verdict"]
    assert set(verdicts) == {"reproduced", "not reproduced", "not applicable"}
    assert verdicts["mean_qkv", "mean-causal"] == "reproduced"
    # the embeddings and three layers stand for layers 0, 10.3, 20.7 and 31 of 32
    assert verdicts["probe_auc", "probe-layer-30"] == "not applicable"
    assert (found["value"].notna() == (found["verdict"] != "not applicable")).all()
    assert (found["reason"].notna() == found["value"].isna()).all()
    attention = found[found["figure"].isin(FIGURES[:3])]
    assert set(attention["heads"].dropna()) == {4}
    sure = found[found["claim"] == "probe-exact-beats-question"].iloc[0]
    assert sure["low"] <= sure["value"] <= sure["high"]
    # true of every causal map, also of 8 models of 3 layers with random weights
    causal = found[found["claim"] == "mean-causal"].iloc[0]
    assert causal["decided"]
    assert causal["references"] == causal["held_references"] == 125
    by_kind = json.loads(causal["references_by_kind"])
    assert by_kind["random_weights"] == {"held": 24, "of": 24}
    assert not found.loc[found["claim"] == "mean-value-column", "decided"].any()
    page = (project.results / "claims.md").read_text()
    assert " claims that could have failed are reproduced; " in page
    for figure, claim in verdicts.index:
        assert f"## {figure}\n" in page
        assert f" | {claim} | " in page
    assert project.planned("claims") == {}

    mine = {"id": "mine", "figures": ["module_map"], "statement": "One is on top."}
    mine |= {"source": "my notes", "statistic": "largest", "comparison": ">=", "threshold": 1}
    (project.folder / "mine.yaml").write_text(yaml.safe_dump({"claims": [mine]}))
    project.change(claims__files=["mine.yaml"])
    assert project.planned("claims") == {"check_module_claims": 1, "collect_claims": 1, "claims": 1}
    project.run("claims")
    after = pd.read_parquet(claims).set_index(["figure", "claim"])
    assert after.loc[("module_map", "mine"), ["verdict", "value"]].tolist() == ["reproduced", 1]
    pd.testing.assert_series_equal(after["verdict"].drop(("module_map", "mine")), verdicts)

    project.change(claims__fail_on=["mean_qkv/mean-causal", "mine"])
    assert project.planned("claims") == {"guard_claims": 1, "claims": 1}
    project.run("claims")
    written = claims.stat().st_mtime_ns
    broken = "/".join(verdicts[verdicts == "not reproduced"].index[0])
    project.change(claims__fail_on=["mine", broken, "probe-layer-30"])
    code, output = project.run("claims", check=False)
    assert code != 0
    assert "Traceback" not in output
    lines = set(re.findall(r"claims\.fail_on: .*", output))
    assert len(lines) == 2, output
    assert any(f"{broken}: not reproduced" in line for line in lines)
    assert any("probe_auc/probe-layer-30: not applicable" in line for line in lines)
    assert claims.stat().st_mtime_ns == written
    assert not (project.results / "claims" / "guarded.txt").exists()


def test_a_run_without_published_claims_has_all_else(author, tmp_path):
    project = author.copy(tmp_path / "copy")
    shutil.copytree(project.results, project.folder / "elsewhere" / "big")
    project.change(claims__built_in="none")
    project.run("claims", "report", "paper")
    assert len(pd.read_parquet(project.results / "claims.parquet")) == 0
    assert "No claim is checked" in (project.results / "claims.md").read_text()
    page = (project.results / "report.html").read_text()
    assert page.count("There is no claim about this figure.") == len(FIGURES)
    assert 'id="choices"' not in page
    assert "tabular" not in (project.results / "paper/claims.tex").read_text()
    code, output = project.run("choices", check=False)
    assert code != 0
    wanted = "choices: no claim about mean_qkv or scale_qkv is checked; "
    assert len([line for line in output.splitlines() if line.startswith(wanted)]) == 1, output
    assert "Traceback" not in output
    project.run("bundle")
    assert project.planned("claims", "report", "paper", "bundle") == {}
    project.change(result_folders=["elsewhere/big"])
    planned = project.planned("compare")
    assert planned["render_comparison"] > 0
    assert "compare_claims" not in planned

    mine = {"id": "mine", "figures": ["mean_qkv"], "statement": "Value keeps the first column."}
    mine |= {"source": "ours", "statistic": "sink_strength", "panels": {"component": "value"}}
    mine |= {"comparison": ">=", "threshold": 0}
    (project.folder / "mine.yaml").write_text(yaml.safe_dump({"claims": [mine]}))
    project.change(claims__files=["mine.yaml"], result_folders=[])
    project.run("report")
    claims = pd.read_parquet(project.results / "claims.parquet")
    assert claims["claim"].tolist() == ["mine"]
    page = (project.results / "report.html").read_text()
    assert mine["statement"] in page
    assert 'id="choices"' in page
    assert "docs/descriptions.md" not in page


def test_a_mistake_in_a_file_of_claims_ends_before_any_job_in_one_line(project):
    (project.folder / "mine.yaml").write_text("claims: [{id: mine}]")
    for changes, message in (
        ({"claims__files": ["mine.yaml"]}, "mine.yaml: claims[1]: missing key(s): figures,"),
        ({"claims__files": ["gone.yaml"]}, "config: claims.files: gone.yaml: No such file"),
        (
            {"claims__files": [], "claims__fail_on": ["nothing"]},
            "claims.fail_on: 'nothing' matches no claim",
        ),
        (
            {"claims__fail_on": [], "claims__built_in": ["Nobody*"]},
            "config: claims.built_in: 'Nobody*' matches no source of config/claims.yaml; ",
        ),
    ):
        project.change(**changes)
        code, output = project.run("claims", check=False)
        assert code != 0
        assert len([line for line in output.splitlines() if message in line]) == 1, output
        assert "Traceback" not in output
        assert "to run, about" not in output  # no job was started
