"""Lines of progress in a job's log."""

import pytest

from llm_figures.core.progress_lines import format_completed, format_progress, read_report


def write(path, *lines):
    path.write_text("".join(f"2026-11-26 19:21:02,406 {line}\n" for line in lines))
    return [str(path)]


@pytest.mark.parametrize(
    ("left", "read"), [(4.2, 4.2), (42, 42), (231, 231), (180, 180), (7500, 7500), (7530, 7500)]
)
def test_what_a_job_reports_is_read_back(tmp_path, left, read):
    line = format_progress(512, 1019, "named tokens", left)
    found = read_report(write(tmp_path / "log", "started in 1.46 s", line, "a further line"))
    assert found[:4] == (512, 1019, "named tokens", read)
    assert found.time == (tmp_path / "log").stat().st_mtime


def test_the_last_loop_counts_until_it_is_done(tmp_path):
    log = tmp_path / "log"
    first = format_progress(1, 3, "texts", 5)
    done = format_completed(3, "texts", 66)
    assert read_report(write(log, first, done)) is None
    second = format_progress(40, 120, "questions", 9)
    assert read_report(write(log, first, done, second)).unit == "questions"
    assert read_report(write(log, "3 of 4 layers, about which we know nothing")) is None
    assert read_report([str(tmp_path / "not begun")]) is None


def test_the_end_of_a_long_log_is_enough(tmp_path):
    line = format_progress(9, 10, "steps", 1)
    assert read_report(write(tmp_path / "log", *["é" * 50] * 5000, line)).done == 9
