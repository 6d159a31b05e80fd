"""What becomes of a benchmark's costs: medians, ratios, targets, shares of the limit."""

from dataclasses import replace

import growth
import pandas as pd
import pytest
import tables
from works import ON_CPU, ON_GPU, Method, Work

WALK = Work(
    "walk", (Method("foot", "x:y", target=4), Method("horse", "x:z"), Method("ours", "x:o"))
)
PRODUCTS = Work(ON_CPU.limit, (Method("slow", "x:s"), Method("ours", "x:p")))


def costs():
    rows = [
        *(("walk", "foot", seconds, 100.0, 0.0) for seconds in (10.0, 12.0, 30.0)),
        *(("walk", "horse", 4.0, 500.0, 0.0) for _ in range(3)),
        *(("walk", "ours", 2.0, 50.0, 1e9) for _ in range(3)),
        (PRODUCTS.name, "slow", 4.0, 80.0, 1e9),
        (PRODUCTS.name, "ours", 1.0, 80.0, 1e9),
    ]
    frame = pd.DataFrame(rows, columns=["work", "method", "seconds", "peak_mb", "operations"])
    frame["operations"] = frame["operations"].where(frame["operations"] > 0)
    return frame.assign(setup_seconds=1.0, other_load=0.0, agreement="All agree.", machine="here")


def test_a_table_shows_medians_their_spread_and_ratios_beside_targets():
    foot, horse, ours = tables.rows_of(WALK, costs().query("work == 'walk'"))
    assert foot["Seconds"] == "12.00"
    assert foot["Least to most"] == "10.00 to 30.00"
    assert foot["× ours"] == "6.0"
    assert foot["Target"] == "4"
    assert "Jobs" not in ours
    assert (horse["× ours"], horse["Target"], ours["× ours"]) == ("2.0", "", "1.0")


def test_a_run_of_the_pipeline_tells_its_jobs_and_what_of_them_was_start_up():
    own = costs().query("work == 'walk'").assign(jobs=4.0, startup_share=0.125)
    assert [row["Jobs"] for row in tables.rows_of(WALK, own)] == ["4"] * 3
    assert tables.rows_of(WALK, own)[0]["Start-up"] == "12%"


def test_what_memory_is_to_be_is_said_beside_what_it_is():
    own = costs().query("work == 'walk'")
    assert tables.memory(WALK, own) == ""
    asked = replace(WALK, largest_mb=60, memory_target=3)
    assert tables.memory(asked, own) == (
        "The target for our peak is at most 60 MiB. Our peak is 1/2.0 of that of `foot`; the "
        "target is 1/3."
    )


def test_the_share_of_the_limit_is_of_the_best_rate_in_the_same_costs():
    found = {row["Task"]: row for row in tables.shares([WALK, PRODUCTS], costs())}
    assert found["walk"]["Of the limit"] == "50%"
    assert found["walk"]["Gflop/s"] == "0"  # half of one
    assert found[PRODUCTS.name]["Of the limit"] == ""
    assert tables.shares([WALK, PRODUCTS], costs().query("work == 'walk'")) == []
    elsewhere = [replace(WALK, setting=ON_GPU), PRODUCTS]
    assert {row["Task"] for row in tables.shares(elsewhere, costs())} == {PRODUCTS.name}


def test_works_that_were_not_measured_are_named():
    sail = Work("sail", (Method("ours", "x:s"),))
    assert tables.report([WALK, sail], costs()).endswith("Not measured so far: sail.")
    assert "Not measured" not in tables.report([WALK, PRODUCTS], costs())


def test_growth_is_told_by_its_exponent():
    assert growth.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    assert growth.exponent([2, 4], [5, 5]) == pytest.approx(0)


def test_memory_is_told_with_weights_where_a_work_does_not_tell_them():
    own = pd.DataFrame({"method": ["1 question", "2 questions"], "count": [1, 2]})
    own = own.assign(seconds=[1.0, 2.0], peak_mb=[100.0, 300.0], weights_mb=float("nan"))
    assert "Peak memory, 100 to 300 MiB, grows as size^1.58" in growth.growth(own)
    assert "Peak memory less the weights, 60 to 260 MiB" in growth.growth(own.assign(weights_mb=40))


def test_results_go_between_the_markers_and_into_a_picture(tmp_path, monkeypatch):
    readme, picture = tmp_path / "README.md", tmp_path / "ratios.png"
    monkeypatch.setattr(tables, "README", readme)
    monkeypatch.setattr(tables, "PICTURE", picture)
    start, end = tables.MARKERS
    readme.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    tables.write_tables([WALK, PRODUCTS], costs().assign(other_load=[0.4, *[0.0] * 10]))
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| foot | 12.00 |" in text
    assert "All agree." in text
    assert "Other programs kept 0.4 cores busy" in text
    assert picture.stat().st_size > 5000
    readme.write_text("nothing")
    with pytest.raises(SystemExit, match="needs the markers"):
        tables.write_tables([WALK], costs())
