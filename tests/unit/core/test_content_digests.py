"""The user's own files are known by content, and large ones are read once."""

import os
import shutil

import pytest

from llm_figures.core import content_digests
from llm_figures.core.content_digests import digest_contents


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content_digests, "KEPT_FROM", 1000)
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 2000)
    os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(content_digests.time, "time_ns", lambda: 10**19)  # long after
    return path


def counted(monkeypatch):
    """The files that are read from now on."""
    read = []
    sha256 = content_digests.sha256
    monkeypatch.setattr(content_digests, "sha256", lambda path: read.append(path) or sha256(path))
    return read


def test_a_file_replaced_by_an_older_one_has_another_digest(file):
    (first,) = digest_contents([file])
    other = file.with_name("other")
    other.write_bytes(b"b" * 2000)
    os.utime(other, (1e9, 1e9))  # of the same size and time
    other.replace(file)
    (second,) = digest_contents([file])
    assert first != second
    assert digest_contents([file]) == [second]


def test_a_large_file_is_read_once_and_again_after_a_change(file, monkeypatch):
    read = counted(monkeypatch)
    digests = [digest_contents([file]) for _ in range(3)]
    assert read == [file]
    assert digests[0] == digests[1] == digests[2]
    os.utime(file)
    assert digest_contents([file]) == digests[0]
    assert read == [file, file]


def test_a_small_file_is_read_each_time_and_a_copy_has_the_same_digest(file, monkeypatch):
    small, copy = file.with_name("small"), file.with_name("copy")
    small.write_text("x")
    shutil.copy(small, copy)
    read = counted(monkeypatch)
    assert len(set(digest_contents([small, copy]) + digest_contents([small, copy]))) == 1
    assert len(read) == 4
    assert not (file.parent / "cache").exists()


def test_a_file_that_was_just_written_is_not_kept(file, monkeypatch):
    monkeypatch.setattr(content_digests.time, "time_ns", lambda: file.stat().st_ctime_ns)
    read = counted(monkeypatch)
    digest_contents([file])
    digest_contents([file])
    assert read == [file, file]


def test_a_missing_file_has_none(file):
    assert digest_contents([file.with_name("missing"), file])[0] is None
