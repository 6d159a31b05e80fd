"""The same bytes, whatever the cores, batches, shards and jobs."""

import pytest

from llm_figures.provenance.reproduction import SAME_BYTES, SAME_ROWS, compare_runs
from project import tiny_project

pytestmark = pytest.mark.workflow


def test_two_cores_other_batches_shards_and_jobs_give_the_same_bytes(made, divided):
    found = compare_runs(made.folder / "results", divided.folder / "results")
    sharded = {f"tiny/forward/{stage}/" for stage in ("generations", "hidden_states/residual",
               "p_true")} | {"tiny/probe/predictions/scores/"}  # fmt: skip
    assert {name for name, how in found.items() if how != SAME_BYTES} == sharded
    assert {found[name] for name in sharded} == {SAME_ROWS}
    # claims, scores, states, six figures in three formats, …
    assert len(found) > 40


@pytest.mark.slow
def test_other_batches_alone_give_the_same_bytes_in_every_file(made, tmp_path, root):
    again = tiny_project(tmp_path, root)
    again.change(batch_size=7)
    again.run("results/tiny/probe/scores.parquet")
    found = compare_runs(made.folder / "results", again.folder / "results")
    made_here = {name: how for name, how in found.items() if how != "only in the first run"}
    assert set(made_here.values()) == {SAME_BYTES}
    assert "tiny/forward/hidden_states/residual/" in made_here
