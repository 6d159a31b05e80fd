import hashlib
import json
import shutil
import subprocess

import pandas as pd
import pytest

import write_manifest
from llm_figures.core.atomic_files import write_text
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.core.records import Record, record_path
from llm_figures.core.versions import find_installed_versions
from llm_figures.provenance.manifest import describe_project, describe_versions, find_versions
from llm_figures.provenance.verification import NAMED, verify

MODEL_INFO = {"name": "mine", "folder": "/somewhere/mine", "weights": {"model.safetensors": "abc"}}
STAGES = {
    "prepare_model": [],
    "quote_answers": [],
    "generate_answers": [f"forward/generations/{shard}-of-2.parquet" for shard in range(2)],
    "ask_p_true": ["forward/p_true/gone.parquet"],
    "render_figure": ["figures/one.svg"],
}


def benchmark(folder, name, seconds, memory):
    path = folder / "benchmarks" / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\tmax_vms\n{seconds}\t0:00:01\t{memory}\t9999\n")


@pytest.fixture
def folder(tmp_path):
    """Results of a run in two shards on two devices, and one shard of an earlier run."""
    folder = tmp_path / "results" / "mine"
    for shard, facts in (("0-of-2", "A"), ("1-of-2", "B"), ("0-of-1", "C")):
        path = folder / "forward" / "generations" / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frame(pd.DataFrame({"shard": [shard]}), path, {"device": facts})
    benchmark(folder, "generate_answers/0-of-2", 10, "100.5")
    benchmark(folder, "generate_answers/1-of-2", 0.25, "-")
    benchmark(folder, "generate_answers/0-of-1", 1000, "1000")
    benchmark(folder, "quote_answers/0-of-2", 1000, "1000")
    benchmark(folder, "ask_p_true/gone", 2, "NA")
    benchmark(folder, "prepare_model", 3, "7")
    (folder / "figures").mkdir()
    (folder / "figures" / "one.svg").write_text("<svg/>")
    (folder / "figures" / ".one.pdf.17.partial").write_text("half")
    (folder / "model.json").write_text(json.dumps(MODEL_INFO))
    write(folder)
    return folder


def write(folder, stages=STAGES):
    write_manifest.main(folder / "model.json", folder / "manifest.json", {"b": 1, "a": 2}, stages)


def read(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_files_are_listed_with_their_bytes_and_maker(folder):
    files = read(folder)["files"]
    assert list(files) == [
        "figures/one.svg",
        "forward/generations/0-of-1.parquet",
        "forward/generations/0-of-2.parquet",
        "forward/generations/1-of-2.parquet",
    ]
    assert files["figures/one.svg"] == {
        "bytes": 6,
        "sha256": hashlib.sha256(b"<svg/>").hexdigest(),
        "made_by": "render_figure",
    }
    # Of an earlier run: there, listed, and not said to be of this one.
    assert files["forward/generations/0-of-1.parquet"]["made_by"] is None


def test_stages_sum_their_own_jobs_and_list_every_device(folder):
    assert read(folder)["stages"] == {
        "prepare_model": {"jobs": 1, "seconds": 3, "max_memory_mb": 7},
        "generate_answers": {
            "jobs": 2,
            "seconds": 10.25,
            "max_memory_mb": 100.5,
            "ran_on": [
                {"device": "A", "files": ["forward/generations/0-of-2.parquet"]},
                {"device": "B", "files": ["forward/generations/1-of-2.parquet"]},
            ],
        },
        # Measured, though its file was deleted since.
        "ask_p_true": {"jobs": 1, "seconds": 2, "max_memory_mb": None},
        "render_figure": {"jobs": 0, "seconds": 0, "max_memory_mb": None},
    }


def record(folder, name, versions, facts=None):
    """The record of a file that these versions made."""
    path, stat = record_path(folder / name, folder), (folder / name).stat()
    known = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": None}
    known |= {"file": name, "rule": "r", "log": [], "params": [], "inputs": {}}
    write_text(path, json.dumps(vars(Record(**known, versions=versions, facts=facts))))


def test_versions_are_those_that_made_the_files(folder):
    assert read(folder)["versions"] == {"mixed": {}, "other_than_installed": {}}
    now = find_installed_versions(["numpy", "python"])
    shards = STAGES["generate_answers"]
    record(folder, shards[0], now)
    record(folder, shards[1], now)
    record(folder, "figures/one.svg", {"python": now["python"]})
    write(folder)
    assert read(folder)["stages"]["generate_answers"]["made_with"] == [{**now, "files": shards}]
    assert read(folder)["versions"] == {"mixed": {}, "other_than_installed": {}}
    record(folder, shards[1], now | {"numpy": "1.0"})
    record(folder, "figures/one.svg", {"python": "3.0"})
    write(folder)
    assert read(folder)["stages"]["generate_answers"]["made_with"] == [
        {**now, "files": shards[:1]},
        {**now, "numpy": "1.0", "files": shards[1:]},
    ]
    numpy, python = now["numpy"], now["python"]
    found = read(folder)["versions"]
    assert found == {
        "mixed": {
            "numpy": {numpy: ["generate_answers"], "1.0": ["generate_answers"]},
            "python": {python: ["generate_answers"], "3.0": ["render_figure"]},
        },
        "other_than_installed": {
            "numpy": {"1.0": ["generate_answers"]},
            "python": {"3.0": ["render_figure"]},
        },
    }
    assert set(describe_versions(found)) == {
        f"mixed: numpy 1.0 (generate_answers); numpy {numpy} (generate_answers)",
        f"mixed: python 3.0 (render_figure); python {python} (generate_answers)",
        "not installed now: numpy 1.0 (generate_answers)",
        "not installed now: python 3.0 (render_figure)",
    }


def test_shards_on_one_device_are_listed_together(folder):
    path = folder / "forward" / "generations" / "1-of-2.parquet"
    write_frame(pd.DataFrame({"shard": ["1-of-2"]}), path, {"device": "A"})
    write(folder)
    (ran_on,) = read(folder)["stages"]["generate_answers"]["ran_on"]
    assert ran_on == {"device": "A", "files": STAGES["generate_answers"]}


def test_a_manifest_repeats_to_the_byte_and_names_no_place_of_the_machine(folder, root):
    first = (folder / "manifest.json").read_bytes()
    write(folder, dict(reversed(STAGES.items())))
    assert (folder / "manifest.json").read_bytes() == first
    assert first.endswith(b"}\n")
    for place in ("/somewhere", str(folder), str(root)):
        assert place.encode() not in first
    written = json.loads(first)
    assert written["format"] == 1
    assert written["model"] == {"name": "mine", "weights": {"model.safetensors": "abc"}}
    assert written["config"] == {"a": 2, "b": 1}
    assert written["project"]["name"] == "llm-figures"


def test_a_damaged_parquet_stops_the_manifest(folder):
    (folder / "forward" / "generations" / "0-of-2.parquet").write_bytes(b"PAR1")
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"0-of-2\.parquet cannot be read"):
        write(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_versions_of_the_direct_dependencies(tmp_path):
    lines = 'name = "x"\nversion = "1"\ndependencies = ["PyYAML==6", "no-such-package[more]>=2"]'
    (tmp_path / "pyproject.toml").write_text(f"[project]\n{lines}\n")
    found = find_versions(tmp_path)
    assert found["no-such-package"] is None
    assert found["PyYAML"][0].isdigit()
    assert len(found) == 2


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_the_workflows_own_and_changes_show(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for clone in (tmp_path, tmp_path / "vendored"):
        clone.mkdir(exist_ok=True)
        (clone / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.5"\n')
        (clone / "Snakefile").write_text("")
    unknown = {"name": "x", "version": "1.5", "commit": None, "uncommitted_changes": None}
    assert describe_project(tmp_path) == unknown
    git("init", "--quiet")
    git("add", "Snakefile", "pyproject.toml")
    git("commit", "--quiet", "--message", "first")
    known = {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": False}
    assert len(known["commit"]) == 40
    assert describe_project(tmp_path) == {**unknown, **known}
    # A folder that the repository around it does not know is not at its commit.
    assert describe_project(tmp_path / "vendored") == unknown
    (tmp_path / "Snakefile").write_text("# changed")
    assert describe_project(tmp_path)["uncommitted_changes"] is True
    monkeypatch.setenv("PATH", "")
    assert describe_project(tmp_path) == unknown


def test_verify_counts_the_files_that_are_as_listed(folder):
    assert verify(folder / "manifest.json") == (4, {})


def test_verify_names_what_changed_or_is_missing(folder):
    (folder / "figures" / "one.svg").write_text("<sVg/>")  # of the same size
    (folder / "forward" / "generations" / "1-of-2.parquet").unlink()
    with (folder / "forward" / "generations" / "0-of-2.parquet").open("ab") as file:
        file.write(b"x")
    (folder / "figures" / "two.png").write_bytes(b"png")  # another target's, made since
    (folder / "notes.txt").write_text("none of our business")
    with pytest.raises(UserError) as caught:
        verify(folder / "manifest.json")
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"3 of 4 files differ from {folder / 'manifest.json'}; ")
    assert lines == [
        "  figures/one.svg: changed (made by render_figure)",
        "  forward/generations/0-of-2.parquet: changed (made by generate_answers)",
        "  forward/generations/1-of-2.parquet: missing (made by generate_answers)",
    ]


def test_verify_lists_files_that_were_added(folder):
    (folder / "figures" / "choices.png").write_bytes(b"png")
    (folder / "choices.parquet").write_bytes(b"parquet")
    (folder / "notes.txt").write_text("none of our business")
    assert verify(folder / "manifest.json") == (
        4,
        {"choices.parquet": "added", "figures/choices.png": "added"},
    )


def test_verify_accepts_changed_files_of_other_targets(folder):
    """They may exist when the manifest is written, which does not wait for them."""
    for name in ("choices.parquet", "intervened.parquet"):
        write_frame(pd.DataFrame({"a": [1]}), folder / name)
    write(folder)
    assert verify(folder / "manifest.json") == (6, {})
    write_frame(pd.DataFrame({"a": [2]}), folder / "choices.parquet")
    (folder / "intervened.parquet").unlink()
    (folder / "forward" / "generations" / "0-of-1.parquet").unlink()  # of an earlier setting
    assert verify(folder / "manifest.json") == (
        3,
        {
            "intervened.parquet": "removed",
            "choices.parquet": "changed",
            "forward/generations/0-of-1.parquet": "removed",
        },
    )
    (folder / "figures" / "one.svg").write_text("other")
    with pytest.raises(UserError) as caught:
        verify(folder / "manifest.json")
    assert str(caught.value).splitlines()[1:] == [
        "  figures/one.svg: changed (made by render_figure)"
    ]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (None, None),
        ({"a": 2, "b": 1}, None),
        ({"a": 2, "b": 1.5}, "b"),
        ({"a": {"inner": (1, 2)}, "b": 1}, "a"),
        ({"a": 2, "b": 1} | dict.fromkeys("cdefghij", 0), "c, d, e, f, g, h, and 2 more"),
    ],
)
def test_verify_says_which_options_changed_and_keeps_the_config_file(folder, config, named):
    write(folder, {**STAGES, "render_figure": ["figures/one.svg"]})
    command = "snakemake figures --configfile mine.yaml"
    verify(folder / "manifest.json", config, command)
    (folder / "figures" / "one.svg").write_text("other")
    with pytest.raises(UserError) as caught:
        verify(folder / "manifest.json", config, command)
    first, *_ = str(caught.value).splitlines()
    assert first.count("snakemake") == first.count(command)
    if named is None:
        assert "options of this run" not in first
        assert f"to make a file again: {command} --forcerun RULE; " in first
    else:
        assert f" options of this run ({named}); to make files and manifest with these: " in first
        assert "remove" not in first


def test_verify_counts_what_it_does_not_name(tmp_path):
    facts = {"bytes": 1, "sha256": "0", "made_by": "render_figure"}
    files = {f"figures/{number}.png": facts for number in range(NAMED + 5)}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(UserError) as caught:
        verify(tmp_path / "manifest.json")
    _, *lines, last = str(caught.value).splitlines()
    assert len(lines) == NAMED
    assert last == "  and 5 more"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"manifest\.json is missing; run: snakemake figures"),
        (b"{", r"manifest\.json cannot be read \(.*\); remove it and run"),
        (b"\xff\xfe", r"manifest\.json cannot be read"),
        (b"[]", r"manifest\.json lists no files; remove it"),
        (b'{"files": {"a": {"bytes": 1}}}', r"manifest\.json lists no files"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(folder, content, message):
    path = folder / "manifest.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        verify(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_kept_are_not_missed(folder):
    name = "forward/generations/0-of-2.parquet"
    record(folder, name, {"numpy": "1.0"}, facts={"device": "A"})

    def write_again():
        write_manifest.main(
            folder / "model.json", folder / "manifest.json", {"b": 1}, STAGES, passing=[name]
        )
        return read(folder)

    there = write_again()
    assert verify(folder / "manifest.json")[1] == {}
    (folder / name).unlink()
    manifest = write_again()
    assert manifest == there
    assert manifest["not_kept"] == [name]
    assert name not in manifest["files"]
    stage = manifest["stages"]["generate_answers"]
    assert {"device": "A", "files": [name]} in stage["ran_on"]
    assert stage["made_with"] == [{"numpy": "1.0", "files": [name]}]
    assert verify(folder / "manifest.json")[1] == {}
