"""A run read from a notebook: with `Results`, with Polars and DuckDB, and its exported probes."""

import json
import re
import shutil

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import llm_figures.probe
from llm_figures import Intervention, Results, UserError
from llm_figures.core.parquet_seal import SHAPES
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.notebook.results import find_own_version
from llm_figures.probe.exported import CARD, TENSORS

pytestmark = pytest.mark.workflow
OWN = find_own_version()


@pytest.fixture(scope="module")
def results(made):
    return Results(made.results)


def means(scores):
    """{(layer, token): AUC} of the probe."""
    shown = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    return shown.set_index(["layer", "token"])["mean"]


def test_tables_and_captions_are_those_of_the_run(made, results):
    assert results.model == "tiny"
    assert results.tables == ["mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc",
                              "probe_curves", "module_map", "claims", "answers"]  # fmt: skip
    for name in results.tables:
        assert len(results.table(name))
    path = made.results / "modules" / "scores.parquet"
    pd.testing.assert_frame_equal(results.table("module_map"), pd.read_parquet(path))
    pd.testing.assert_frame_equal(
        results.table("modules/scores.parquet"), results.table("module_map")
    )
    written = (made.results / "figures" / "probe_auc.caption.txt").read_text()
    assert results.caption("probe_auc") == written.strip()
    assert results.manifest["model"]["name"] == "tiny"
    assert "Results of tiny in " in repr(results)


def test_scikit_learn_repeats_the_pipelines_score_from_the_arrays(results):
    known = means(results.table("probe_auc"))
    for layer, token in ((2, "exact_answer_last"), (3, "-2")):
        states = results.hidden_states(layer, token)
        fit = LogisticRegression(C=1 / states.X.shape[1], max_iter=10_000, tol=1e-8)
        probe = make_pipeline(StandardScaler(), fit)
        found = cross_val_score(probe, states.X, states.y, cv=states.splits, scoring="roc_auc")
        assert found.mean() == pytest.approx(known[layer, token], abs=1e-3)


def test_states_are_those_of_the_files_with_the_answers_labels(made, results):
    states = results.hidden_states(1, "last_q")
    X, y, groups = states
    answers = pd.read_parquet(made.results / "forward" / "answers.parquet")
    answers = answers[answers["valid"]].sort_values("question_id").set_index("question_id")
    assert states.question_ids.tolist() == answers.index.tolist()
    assert (y == ~answers["correct"]).all()
    assert (groups == answers["group"]).all()
    stored = pq.read_table(made.results / "forward/hidden_states/residual/0-of-1.parquet")
    rows = {
        question: row
        for row, (question, token) in enumerate(
            zip(stored["question_id"].to_pylist(), stored["token"].to_pylist(), strict=True)
        )
        if token == "last_q"
    }
    layer = stored["layer_01"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(X, layer[[rows[n] for n in answers.index]])
    assert states.site == "residual"


def test_shards_are_joined(divided, results):
    """The same questions in two shards, and of files of an earlier number of shards none."""
    states = Results(divided.results).hidden_states(2, "-1")
    expected = results.hidden_states(2, "-1")
    np.testing.assert_array_equal(states.X, expected.X)
    np.testing.assert_array_equal(states.question_ids, expected.question_ids)


def test_files_of_an_earlier_number_of_shards_are_no_states(project, divided):
    folder = project.results / "forward" / "hidden_states" / "residual"
    for path in (divided.results / "forward" / "hidden_states" / "residual").iterdir():
        shutil.copy(path, folder)
    results = Results(project.results)
    assert len(results.hidden_states(0, "-1").X)  # those of the manifest's config
    (project.results / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        results.hidden_states(0, "-1")
    (folder / "0-of-1.parquet").unlink()
    assert len(results.hidden_states(0, "-1").X)
    (folder / "0-of-2.parquet").unlink()
    with pytest.raises(UserError, match=r"residual is not complete; make it with: snakemake probe"):
        results.hidden_states(0, "-1")


def test_queries_and_keys_give_the_figures_maps(results):
    cells = results.table("mean_qkv")
    cells = cells[(cells["input"] == 2) & (cells["component"] == "query")]
    drawn = cells.pivot(index="query_position", columns="key_position", values="weight")
    states = results.queries_keys(2, int(cells["layer"].iloc[0]))
    assert states.query.shape == (4, len(drawn), 12)
    assert states.key.shape == (2, len(drawn), 12)
    changed = states.intervene(Intervention("query", "mean", over="features"))
    np.testing.assert_allclose(changed.compute_weights().mean(axis=0), drawn, atol=1e-6)


def test_a_copy_elsewhere_is_read_without_records(made, tmp_path):
    copied = tmp_path / "from a colleague"
    keep = shutil.ignore_patterns("records", "logs", "benchmarks")
    shutil.copytree(made.results, copied, ignore=keep)
    results = Results(copied)
    assert results.model == "tiny"
    assert len(results.hidden_states(1, "-1").X)
    assert len(results.queries_keys(1, 0).tokens)


def keep_what_an_archive_holds(folder):
    shutil.rmtree(folder / "forward")
    (folder / "redraw.json").write_text("{}")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_column(path, column):
    """The table as another version writes it."""
    pq.write_table(pq.read_table(path).drop_columns([column]), path)


def leave_out_an_answer(path):
    """The answers of another judge, with which the scores were not made."""
    answers = read_frame(path)
    answers.loc[answers["valid"].idxmax(), "valid"] = False
    write_frame(answers, path)


def leave_out_a_score(path):
    """Scores of fewer answers."""
    scores = read_frame(path)
    write_frame(scores.assign(n=scores["n"] - 1), path)


def relabel_an_answer(path):
    """The answers of another judge, as many as there were."""
    answers = read_frame(path)
    answers.loc[answers["valid"].idxmax(), "correct"] ^= True
    write_frame(answers, path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


# (what a folder suffers, what is asked of it, what the error says)
MISTAKES = [
    (None, lambda r: r.table("mean_qk"), "no table is called 'mean_qk'; there are mean_qkv, "),
    (
        None,
        lambda r: r.table("choices"),
        "choices.parquet is missing; make it with: snakemake choi",
    ),
    (None, lambda r: r.caption("probe_presets"), "make it with: snakemake probe_presets (there ar"),
    (None, lambda r: r.caption("attention"), "no figure is called 'attention' (there are mean_qkv"),
    (None, lambda r: r.hidden_states(4, "-1"), "layer 4 has no hidden states; layers are 0 (embe"),
    (None, lambda r: r.hidden_states(-1, "-1"), "layer -1 has no hidden states"),
    (None, lambda r: r.hidden_states(0, "-9"), "token '-9' is not probed; the tokens are last_q, "),
    (None, lambda r: r.hidden_states(0, "-1", site="mlp"), "no probe reads the site 'mlp'; there"),
    (None, lambda r: r.queries_keys(4, 0), "of input 4, layer 0; inputs are 1 to 3, layers 0 to 2"),
    (
        lambda f: (f / "probe/scores.parquet").unlink(),
        lambda r: r.hidden_states(0, "-1"),
        "probe/scores.parquet is missing; make it with: snakemake probe_auc",
    ),
    (
        lambda f: shutil.rmtree(f / "forward/hidden_states"),
        lambda r: r.hidden_states(0, "-1"),
        "hidden_states/residual is missing; make it with: snakemake probe_auc",
    ),
    (
        lambda f: (f / "forward/attention_states.parquet").unlink(),
        lambda r: r.queries_keys(1, 0),
        "forward/attention_states.parquet is missing; make it with: snakemake mean_qkv",
    ),
    (
        lambda f: cut_short(f / "modules/scores.parquet"),
        lambda r: r.table("module_map"),
        "modules/scores.parquet cannot be read",
    ),
    (
        lambda f: shutil.copy(f / "attention/mean_qkv.parquet", f / "attention/scale_qkv.parquet"),
        lambda r: r.table("scale_qkv"),
        "attention/scale_qkv.parquet holds attention/mean_qkv.parquet; remove it",
    ),
    (
        lambda f: leave_out_an_answer(f / "forward/answers.parquet"),
        lambda r: r.hidden_states(0, "last_q"),
        "has no valid answer; they are not of one run: remove the states",
    ),
    (
        lambda f: leave_out_a_score(f / "probe/scores.parquet"),
        lambda r: r.hidden_states(0, "last_q"),
        "they are not of one run; run: snakemake probe_auc",
    ),
    (
        lambda f: relabel_an_answer(f / "forward/answers.parquet"),
        lambda r: r.hidden_states(0, "last_q"),
        "probe/scores.parquet was made from other answers than answers.parquet: they are not of o",
    ),
    (
        lambda f: (f / "forward/hidden_states/residual/0-of-1.parquet").write_bytes(b""),
        lambda r: r.hidden_states(0, "-1"),
        "hidden_states/residual/0-of-1.parquet cannot be read",
    ),
    *(
        (
            keep_what_an_archive_holds,
            ask,
            "is missing: archives hold no answers and no states; the folder of the run itself has",
        )
        for ask in (lambda r: r.hidden_states(0, "-1"), lambda r: r.table("answers"))
    ),
    (None, lambda r: r.table("../b/claims.parquet"), "no table is called '../b/claims.parquet'"),
    (None, lambda r: r.table("attention/b.parquet"), "attention/b.parquet is missing"),
    (
        lambda f: drop_column(f / "modules/scores.parquet", "projection"),
        lambda r: r.table("module_map"),
        f"modules/scores.parquet lacks projection: made by another commit of llm-figures {OWN}; "
        "make it again with: snakemake module_map",
    ),
    (
        lambda f: edit_json(f / "manifest.json", project={"version": "0.1.4"}),
        lambda r: r.tables,
        f"was made by llm-figures 0.1.4, and this is {OWN}: read the results with the version that",
    ),
    (
        lambda f: edit_json(f / "manifest.json", format=2, project={"version": "9.0.0"}),
        lambda r: r.tables,
        f"manifest.json: format 2 (llm-figures 9.0.0); this version ({OWN}) reads format 1",
    ),
    (
        lambda f: edit_json(f / "records/model.json.json", format=0),
        lambda r: r.tables,
        f"records/model.json.json: format 0 (llm-figures {OWN}); this version ({OWN}) reads",
    ),
    (
        lambda f: (f / "manifest.json").write_text("{"),
        lambda r: r.tables,
        "manifest.json cannot be read",
    ),
    (
        lambda f: (f / "model.json").unlink(),
        lambda r: r.tables,
        "has no model.json, so it is not a folder results/{model}; it holds attention, benchmarks",
    ),
]


@pytest.mark.parametrize(("damage", "ask", "says"), MISTAKES, ids=[says for *_, says in MISTAKES])
def test_a_mistake_is_one_line(made, tmp_path, damage, ask, says):
    folder = made.results
    if damage is not None:
        folder = tmp_path / "tiny"
        shutil.copytree(made.results, folder)
        damage(folder)
    with pytest.raises(UserError) as caught:
        ask(Results(folder))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_no_model_is_one_line(made, tmp_path):
    for folder, says in (
        (made.results.parent, "it holds folders of models: tiny"),
        (tmp_path, "it holds nothing"),
        (tmp_path / "none", "no such folder (the working directory is "),
        (made.results / "model.json", "is a file, not a folder results/{model}"),
    ):
        with pytest.raises(UserError) as caught:
            Results(folder)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


# Other readers


def flat(column):
    """A column of pyarrow as lists, tensors in C order."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks])
    return column.to_pylist()


def same(values, others):
    """Whether two columns are equal, NaN being equal to NaN."""
    return json.dumps(values, default=str) == json.dumps(others, default=str)


def test_polars_and_duckdb_read_every_file(made):
    paths = sorted(made.results.rglob("*.parquet"))
    assert len(paths) == 21
    tensors = 0
    for path in paths:
        expected = pq.read_table(path)
        by_polars = pl.read_parquet(path)
        by_duckdb = duckdb.sql(f"SELECT * FROM '{path}'")
        assert by_polars.columns == by_duckdb.columns == expected.column_names
        rows = by_duckdb.fetchall()
        for number, name in enumerate(expected.column_names):
            values = flat(expected[name])
            assert same(by_polars[name].to_list(), values), (path, name)
            assert same([_plain(row[number]) for row in rows], values), (path, name)
            if isinstance(expected[name].type, pa.FixedShapeTensorType):
                tensors += 1
                shapes = pq.read_metadata(path).metadata[SHAPES]
                assert json.loads(shapes)[name] == list(expected[name].type.shape)
                array = expected[name].combine_chunks().to_numpy_ndarray()
                shaped = by_polars[name].to_numpy().reshape(-1, *expected[name].type.shape)
                np.testing.assert_array_equal(shaped, array)
    # hidden states of four layers; query, key, norms of values, cos and sin, the same at random
    assert tensors == 4 + 5 + 5


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_the_page_on_notebooks_holds_to_the_letter(made, root, tmp_path, monkeypatch):
    """Every block of code of docs/notebook.md, one after the other."""
    import matplotlib.pyplot as plt

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "smollm2-135m").symlink_to(made.results)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs/notebook.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    names = {}
    for block in blocks:
        exec(block.replace("(20, ", "(2, "), names)  # the tiny model has three layers
    plt.close("all")
    np.testing.assert_array_equal(
        names["X"], names["results"].hidden_states(2, "exact_answer_last").X
    )
    np.testing.assert_array_equal(names["X"], names["X_too"])
    assert names["query"].shape[1:] == tuple(names["shape"])
    assert names["highest"]["mean"][0] == means(names["scores"]).max()


# Exported probes


def test_probes_are_exported_and_score_as_the_card_says(project):
    _, output = project.run("probes_export")
    folder = project.results / "probe" / "export"
    results = Results(project.results)
    known = means(results.table("probe_auc"))
    probes = llm_figures.probe.load_all(folder)
    best = known.dropna().groupby("token", sort=False).idxmax()
    assert set(probes) == set(best)
    weights = results.model_info["weights"]
    for (layer, token), probe in probes.items():
        states = results.hidden_states(layer, token)
        logits = probe.score(states)
        assert probe.card["model"]["weights"] == weights
        assert probe.about["held_out"]["auc"] == known[layer, token]
        assert probe.about["training_questions"]["wrong"] == states.y.sum()
        auc = roc_auc_score(states.y, logits.round(9))  # equal states are ties
        assert probe.about["training_auc"] == pytest.approx(auc, abs=1e-3)
        assert f"layer {layer}, {token}: held-out {known[layer, token]:.3f}" in output
    assert "AUC on its own training questions says nothing of new ones" in output
    card = json.loads((folder / CARD).read_text())
    assert card["states"]["ran_on"]["dtype"] == "float32"
    assert card["questions"]["dataset"]["path"] == "mine.jsonl"
    assert card["questions"]["judge"]["method"] == "contains"  # what a wrong answer is
    assert card["questions"]["exact_answer"]["method"] == "auto"
    assert str(project.folder) not in json.dumps(card)

    # other cells fit nothing else again
    assert project.planned("probes_export") == {}
    project.change(probe__export__cells=[{"layer": 2, "token": "-1"}])
    assert project.planned("probes_export") == {"export_probes": 1, "probes_export": 1}
    assert project.planned("probe_auc") == {}
    project.run("probes_export")
    probe = llm_figures.probe.load(folder)
    assert (probe.layer, probe.token) == (2, "-1")
    assert probe.card["cells"].startswith("as listed")
    assert len((folder / TENSORS).read_bytes()) < 4000
