"""Probes of other kinds, and probes of single heads, run as a user runs them."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from documented import find_differences
from llm_figures import Results
from llm_figures.core.parquet_tensors import read_frame

pytestmark = pytest.mark.workflow


def test_heads_are_probed_one_by_one_at_one_token(project):
    made = {"score_probe_heads": 1, "render_figure": 1, "check_table_claims": 1}
    assert project.planned("probe_heads") == {
        "extract_hidden_states": 1, **made, "probe_heads": 1,
    }  # fmt: skip
    project.run("probe_heads")
    assert find_differences(project.results) == {}
    states = pq.read_schema(project.results / "forward/hidden_states/head/0-of-1.parquet")
    assert list(states.field("layer_03").type.shape) == [4, 12]
    scores = read_frame(project.results / "probe/heads.parquet")
    assert scores.attrs["token"] == "exact_answer_last"
    assert scores.attrs["protocol"]["site"] == "head"
    auc = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    assert list(zip(auc["layer"], auc["head"], strict=True)) == [
        (layer, head) for layer in range(3) for head in range(4)
    ]
    assert auc["mean"].notna().all()
    assert set(scores["control"]) >= {"shuffled_labels", "embeddings", "p_true"}
    # The embeddings are those of the residual stream's probe, at the same token.
    of_layers = read_frame(project.results / "probe/scores.parquet")
    same = of_layers.query("layer == 0 and token == 'exact_answer_last' and metric == 'auc'")
    same = same.set_index("control")["mean"]["none"]
    assert scores.query("control == 'embeddings' and metric == 'auc'")["mean"].eq(same).all()
    caption = (project.results / "figures/probe_heads.caption.txt").read_text()
    assert "It was chosen as the highest of 12 heads by this very score" in caption
    verdicts = pd.read_parquet(project.results / "claims/probe_heads.parquet")
    assert (verdicts["figure"] == "probe_heads").all()
    assert (verdicts["verdict"] != "not applicable").all()

    assert project.planned("probe_heads") == {}
    project.change(figures__probe_heads__metric="accuracy")
    redrawn = {"render_figure": 1, "check_table_claims": 1, "probe_heads": 1}
    assert project.planned("probe_heads") == redrawn
    # Another token is there already, and the default figures know nothing of heads.
    project.change(figures__probe_heads__token="last_q", figures__probe_heads__metric="auc")
    assert project.planned("probe_heads") == {**made, "probe_heads": 1}
    project.change(probe__site="head")
    project.run("probe_auc")
    caption = (project.results / "figures/probe_auc.caption.txt").read_text()
    assert "on the outputs of all attention heads of each block, side by side, of tiny" in caption
    assert "C 1 / number of features" in caption
    X, _, _ = Results(project.results).hidden_states(2, "last_q")
    assert X.shape[1] == 4 * 12


def test_another_kind_of_probe_is_named_wherever_its_scores_are_shown(project):
    project.change(probe__kind="mean_difference")
    planned = project.planned("probe_auc")
    assert planned["score_probes"] == 1
    assert not {"extract_hidden_states", "generate_answers"} & set(planned)
    project.run("probe_auc", "probes_export")
    name = "linear probe (difference of class means)"
    for figure in ("probe_auc", "probe_curves"):
        caption = (project.results / f"figures/{figure}.caption.txt").read_text()
        assert f"of a {name} on the residual stream" in caption
    card = (project.results / "probe/export/probes.json").read_text()
    assert '"kind": "mean_difference"' in card
    assert "not a probability" in card
    assert '"C": null' in card

    project.change(probe__kind="mlp")
    code, output = project.run("probes_export", "--dry-run", check=False)
    assert code == 1
    assert "config: probe.kind: mlp: probes_export writes linear probes" in output
    assert "Traceback" not in output
