"""The target sink_map, from states that are there."""

import pandas as pd
import pytest

from documented import find_differences
from llm_figures import Results

pytestmark = pytest.mark.workflow


def planned(project):
    return {rule: jobs for rule, jobs in project.planned("sink_map").items() if rule != "sink_map"}


def test_sinks_need_no_pass_through_the_model(project):
    every = {"score_sink_map": 1, "render_figure": 1, "check_table_claims": 1}
    assert planned(project) == every
    project.run("sink_map")
    assert find_differences(project.results) == {}
    scores = pd.read_parquet(project.results / "attention/sink_map.parquet")
    # 3 texts of at least 6 tokens through 3 layers of 4 heads and 2 key-value heads
    assert len(scores) == 3 * (2 * 4 + 2 * 2) * scores.drop_duplicates("input")["tokens"].sum()
    pd.testing.assert_frame_equal(Results(project.results).table("sink_map"), scores)
    first = scores.query("component == 'attention' and position == 0")["value"]
    assert first.between(1 / scores["tokens"].max(), 1).all()
    verdicts = pd.read_parquet(project.results / "claims/sink_map.parquet")
    assert set(verdicts["verdict"]) <= {"reproduced", "not reproduced"}
    assert len(verdicts) == 11
    for kind in ("pdf", "svg", "png", "caption.txt", "numbers.json"):
        assert (project.results / "figures" / f"sink_map.{kind}").stat().st_size > 100
    # the weights are there for any threshold; other tokens are not
    project.change(figures__sink_map__threshold=0.4)
    assert planned(project) == {"render_figure": 1, "check_table_claims": 1}
    project.change(figures__sink_map__tokens=5)
    assert planned(project) == every
