"""Sampled answers: kinds of error and the choice among them, as a user runs them."""

import pandas as pd
import pytest

from documented import find_differences
from llm_figures.questions.error_kinds import KINDS

pytestmark = pytest.mark.workflow
SAMPLES = "results/tiny/forward/samples.parquet"


def test_kinds_of_error_and_the_choice_among_samples(project):
    project.change(resamples={"count": 4, "temperature": 0.7, "limit": 100})
    project.run("error_kinds", "answer_choice")
    assert find_differences(project.results) == {}
    samples = pd.read_parquet(project.folder / SAMPLES)
    assert (samples.groupby("question_id")["sample"].agg(list).map(len) == 4).all()
    assert samples["question_id"].nunique() == 100
    kinds = pd.read_parquet(project.results / "forward/error_kinds.parquet")
    assert set(kinds["kind"]) <= set(KINDS)
    assert len(kinds) == 100
    scores = pd.read_parquet(project.results / "probe/error_kinds.parquet")
    shares = scores[scores["metric"] == "share"]
    assert shares["mean"].sum() == pytest.approx(1)
    chosen = pd.read_parquet(project.results / "probe/answer_choice.parquet")
    overall = chosen[(chosen["kind"] == "all") & (chosen["metric"] == "accuracy")]
    right = overall.set_index("strategy")["mean"]
    answers = pd.read_parquet(project.results / "forward/answers.parquet")
    asked = answers[answers["valid"] & answers["question_id"].isin(kinds["question_id"])]
    assert right["greedy"] == pytest.approx(asked["correct"].mean())
    assert right.drop(["greedy", "any_right"]).max() <= right["any_right"]
    for figure in ("error_kinds", "answer_choice"):
        assert (project.results / f"figures/{figure}.svg").stat().st_size > 1000
        claims = pd.read_parquet(project.results / f"claims/{figure}.parquet")
        assert len(claims) >= 2
        assert "Traceback" not in (project.results / f"claims/{figure}.md").read_text()
    # thresholds ask the model nothing again, and neither does the number of shards change a sample
    project.change(resamples__taxonomy={"consistent": 20})
    planned = project.planned("error_kinds")
    assert "assign_kinds" in planned
    assert not {"sample_answers", "judge_samples", "extract_sample_states"} & set(planned)
    project.change(shards=2, batch_size=3)
    project.run(SAMPLES)
    pd.testing.assert_frame_equal(pd.read_parquet(project.folder / SAMPLES), samples)


def test_samples_that_cannot_be_judged_are_refused_before_any_job(project):
    project.change(judge__method="model")
    code, output = project.run("error_kinds", check=False)
    assert code
    assert "config: judge.method: model: would ask the model about every sample" in output
    assert "Traceback" not in output
