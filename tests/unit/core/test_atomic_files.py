import os
import socket
import subprocess
import sys
import time

from llm_figures.core.atomic_files import whole_file


def test_two_writers_of_a_file_leave_each_other_alone(tmp_path):
    path = tmp_path / "table.parquet"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the last to finish
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


def test_only_what_a_dead_writer_left_is_cleared_away(tmp_path):
    path = tmp_path / "table.parquet"
    host = socket.gethostname().split(".")[0]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    week = 7 * 24 * 3600
    files = {
        f".{path.name}.{host}.{dead.pid}.0a.partial": (0, False),
        f".{path.name}.{host}.{os.getppid()}.0a.partial": (2 * week, True),
        f".{path.name}.another.{dead.pid}.0a.partial": (0, True),
        f".{path.name}.another.{os.getppid()}.0a.partial": (2 * week, False),
        f".other.{path.name}.{host}.{dead.pid}.0a.partial": (0, True),
    }
    for name, (age, _) in files.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with whole_file(path) as partial:
        partial.touch()
    kept = {file.name for file in tmp_path.iterdir()} - {path.name}
    assert kept == {name for name, (_, stays) in files.items() if stays}
