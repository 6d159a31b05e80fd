"""How far a run is, from planted tasks, times and logs."""

import re

import pytest

from llm_figures.core.progress_lines import Report
from llm_figures.workflow import resources
from llm_figures.workflow.resources import Need
from llm_figures.workflow.run_progress import (
    RunProgress,
    Task,
    expected_seconds,
    format_left,
    schedule,
)


def task(seconds, *after, rule="score_probes", **options):
    return Task(rule, seconds=seconds, measured=True, after=frozenset(after), **options)


def whole(tasks, cores, places=None):
    left = {key: found.seconds for key, found in tasks.items()}
    return schedule(tasks, left, (), cores, places)


def test_jobs_count_by_their_time_and_not_by_their_number():
    tasks = {0: task(1000), **{key: task(1) for key in range(1, 11)}}
    run = RunProgress(tasks, cores=2)
    for key in range(1, 11):
        run.start(key, now=key)
        run.finish(key, now=key + 1)
    assert run.estimate({}, now=11).share == pytest.approx(10 / 1010)
    run.start(0, now=11)
    share, left = run.estimate({0: None}, now=511)
    assert share == pytest.approx(510 / 1010)
    assert left == pytest.approx(500)


def test_the_time_left_follows_cores_threads_and_order():
    two = {0: task(10), 1: task(10)}
    assert whole(two, cores=1) == 20
    assert whole(two, cores=2) == 10
    assert whole({0: task(10, threads=8), 1: task(10, threads=8)}, cores=2) == 20
    assert whole({0: task(10), 1: task(10, 0), 2: task(10, 1)}, cores=8) == 30
    # the long way begins first
    assert whole({0: task(10), 1: task(10), 2: task(1), 3: task(20, 2)}, cores=2) == 21
    # what finished is waited for no more
    assert schedule(two | {2: task(5, 0)}, {2: 5.0}, (), cores=1) == 5


def test_jobs_elsewhere_share_places_and_not_cores():
    tasks = {key: task(10, local=False, threads=8) for key in range(6)}
    assert whole(tasks, cores=1, places=3) == 20
    assert whole(tasks | {6: task(25)}, cores=1, places=3) == 25


def test_a_report_in_the_log_counts_more_than_what_was_expected(tmp_path):
    log = tmp_path / "log"
    run = RunProgress({0: task(100, rule="generate_answers", logs=(str(log),))})
    run.start(0, now=0)
    assert run.describe(run.read_reports([0]), now=20) == (
        "20%, about 1 min 20 s left: generate answers"
    )
    log.write_text("2026-11-26 19:21:02,406 512 of 1019 questions, about 3 min left\n")
    found = run.read_reports([0])
    assert found[0][:4] == (512, 1019, "questions", 180)
    found = {0: found[0]._replace(time=20)}
    line = "50%, about 3 min left: generate answers: 512 of 1,019 questions"
    assert run.describe(found, now=30) == line
    run.describe({0: found[0]._replace(done=1)}, now=31)
    assert run.share == 512 / 1019  # what was shown is not taken back
    # a report grows older
    assert run.estimate(found, now=120).left == pytest.approx(80)
    assert run.estimate(found, now=900).left == pytest.approx(90)


def test_what_jobs_took_corrects_what_others_are_expected_to_take():
    tasks = {key: Task("render_figure", seconds=30) for key in range(3)}
    run = RunProgress(tasks | {3: task(30)})
    run.start(0, now=0)
    run.finish(0, now=90)
    # (90 + 30) / (30 + 30) for estimates, and nothing for what an earlier run took
    assert run.estimate({}, now=90).left == pytest.approx(2 * 60 + 30)


def test_a_finished_job_counts_by_its_benchmark_and_not_by_its_time_in_a_queue(tmp_path):
    benchmark = tmp_path / "job.tsv"
    benchmark.write_text("s\th:m:s\tmax_rss\n40.5\t0:00:40\t12.3\n")
    run = RunProgress({0: task(40, local=False, benchmark=str(benchmark))}, places=1)
    run.start(0, now=0)
    assert run.describe(run.read_reports([0]), now=5) == "0%, about 40 s left: 1 in the queue"
    run.finish(0, now=3600)
    assert run.took == {0: 40.5}
    assert run.estimate({}, now=3600) == (1, 0)


def test_a_job_that_failed_and_runs_again_starts_anew():
    run = RunProgress({0: task(100), 1: task(100)})
    run.start(0, now=0)
    run.stop(0)
    assert run.estimate({}, now=50).left == pytest.approx(200)
    run.start(0, now=50)
    assert run.estimate({0: None}, now=60).left == pytest.approx(190)


def test_jobs_of_a_rule_are_named_together():
    tasks = {
        0: task(1, rule="ask_p_true"),
        1: task(1, rule="ask_p_true"),
        2: task(1, rule="render_figure", detail="scale_qkv"),
        3: task(1, rule="render_figure", detail="probe_auc"),
    }
    run = RunProgress(tasks, cores=4)
    for key in tasks:
        run.start(key, now=0)
    reports = {0: Report(3, 10, "answers", 1.0, 0.0), 1: Report(2, 1000, "answers", 1.0, 0.0)}
    line = run.describe({**reports, 2: None, 3: None}, now=1)
    assert line.split("left: ")[1] == (
        "ask for P(true): 2 jobs, 5 of 1,010 answers; render figure scale_qkv, probe_auc: 2 jobs"
    )


def test_an_estimate_for_the_reader_is_no_upper_bound():
    small = Need(resources.START, 0, 0, 0)
    assert 1 < expected_seconds(small) < resources.START / 2
    assert expected_seconds(small._replace(seconds=resources.START + 100)) == pytest.approx(
        expected_seconds(small) + 50
    )


@pytest.mark.parametrize("seconds", [0.2, 14, 118, 119, 125, 599, 601, 5000, 90000])
def test_the_time_left_is_rounded_to_what_it_is_worth(seconds):
    text = format_left(seconds)
    units = {"s": 1, "min": 60, "h": 3600}
    read = sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+) (s|min|h)", text))
    assert text.startswith("about ")
    assert read >= 10
    assert abs(read - seconds) <= max(10, 0.15 * seconds)
