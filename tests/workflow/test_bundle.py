"""One archive for a paper: packed, carried away, drawn from without torch, model or network."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile

import pandas as pd
import pytest

from llm_figures.claims.figures import FIGURES
from project import NO_NETWORK, Project, refuse_network

pytestmark = pytest.mark.workflow

MAPS = [*FIGURES, "module_map_output_rms"]
# Stands before every module of that name: whoever imports it fails.
REFUSED = "raise ImportError('{name} is not for drawing')\n"


class Reader(Project):
    """Someone with the repository and an archive: no model, no torch, no network."""

    def __init__(self, folder, root, archive):
        super().__init__(folder, root, {})
        self.results = folder / "results" / f"{archive.name.removesuffix('.zip')}"
        self.archive = folder / archive.name
        if archive != self.archive:
            shutil.copyfile(archive, self.archive)
        blocked = folder / "blocked"
        blocked.mkdir(exist_ok=True)
        for name in ("torch", "transformers", "safetensors", "sklearn"):
            (blocked / f"{name}.py").write_text(REFUSED.format(name=name))
        (blocked / "sitecustomize.py").write_text(NO_NETWORK)

    def command(self, *arguments):
        return [*super().command(*arguments), "--config", f"bundle={self.archive.name}"]

    def run(self, *arguments, check=True):
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "blocked")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.returncode, done.stdout

    def refuses(self, message, target="figures"):
        """The run ends before any job, in one line that says so."""
        code, output = self.run(target, check=False)
        assert code != 0
        assert len([line for line in output.splitlines() if message in line]) == 1, output
        assert "Traceback" not in output
        assert "to run, about" not in output  # no job was started


@pytest.fixture(scope="module")
def archive(author):
    return author.results / "tiny.bundle.zip"


@pytest.fixture(scope="module")
def drawn(archive, tmp_path_factory, root):
    """A reader who has drawn the figures, and what was printed."""
    reader = Reader(tmp_path_factory.mktemp("drawn"), root, archive)
    return reader, reader.run("figures")[1]


@pytest.fixture
def reader(drawn, tmp_path, root):
    """A copy of the reader's folder, free to be changed."""
    folder = drawn[0].folder
    shutil.copytree(folder, tmp_path, copy_function=shutil.copy2, dirs_exist_ok=True)
    return Reader(tmp_path, root, tmp_path / drawn[0].archive.name)


def test_an_archive_holds_what_figures_are_drawn_from_and_no_more(author, archive):
    with zipfile.ZipFile(archive) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    kinds = ("pdf", "svg", "png", "caption.txt", "panels.json", "numbers.json")
    figures = {f"figures/{f}.{k}" for f in [*MAPS, "probe_curves", "choices"] for k in kinds}
    scores = {"probe/scores.parquet", "modules/scores.parquet", "claims.parquet"}
    scores |= {f"attention/{figure}.parquet" for figure in FIGURES[:3]} | {"choices.parquet"}
    texts = {"claims.md", "choices.md", "manifest.json", "model.json", "config.yaml", "bundle.json"}
    assert set(content) == figures | scores | texts
    assert archive.stat().st_size < 3e6
    manifest = json.loads(content["manifest.json"])
    contents = json.loads(content["bundle.json"])
    for name in (figures | scores) - {n for n in content if "choices" in n}:
        assert contents["files"][name] == {
            key: manifest["files"][name][key] for key in ("bytes", "sha256")
        }
    assert set(contents["left_out"]) == set(manifest["files"]) - set(content)
    assert "forward/attention_states.parquet" in contents["left_out"]
    # Nothing of the machine that made it.
    for name in texts:
        assert str(author.folder).encode() not in content[name]
        assert b"/home/" not in content[name]
        assert b"/root/" not in content[name]
    first = archive.read_bytes()
    assert author.planned("bundle") == {}
    author.run("bundle", "--forcerun", "bundle_results")
    assert archive.read_bytes() == first


def test_figures_are_drawn_from_an_archive_byte_for_byte(author, drawn):
    reader, output = drawn
    assert "48 files equal those of tiny.bundle.zip, byte for byte" in output
    originals = {path.name: path.read_bytes() for path in (author.results / "figures").iterdir()}
    again = {path.name: path.read_bytes() for path in (reader.results / "figures").iterdir()}
    assert again == originals
    record = json.loads((reader.results / "redraw.json").read_text())
    assert set(record["equal"]) == set(originals)
    assert record["different"] == record["changed_options"] == []
    assert record["drawn_with"] == record["bundle_drawn_with"]
    assert record["drawn_with"]["matplotlib"]
    # Beside results of one's own, and nothing else made.
    assert [path.name for path in (reader.folder / "results").iterdir()] == ["tiny.bundle"]
    claims = pd.read_parquet(author.results / "claims.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(reader.results / "claims.parquet"), claims)
    assert reader.planned() == {}
    # The same figures from the config in the archive laid over it, which holds all its options.
    (reader.folder / "same.yaml").write_text((reader.results / "config.yaml").read_text())
    assert reader.planned("--configfile", "same.yaml") == {}


def test_a_figure_from_an_archive_is_drawn_with_other_colours(reader):
    reader.change(figures__mean_qkv__palette="viridis")
    assert reader.planned() == {"render_figure": 1, "check_redraw": 1}
    _, output = reader.run("figures")
    line = next(line for line in output.splitlines() if "files equal those of" in line)
    assert "45 of 48 files equal those of tiny.bundle.zip, 3 differ" in line
    assert "(options changed: figures.mean_qkv.palette)" in line
    assert line.endswith(": mean_qkv.pdf, mean_qkv.png, mean_qkv.svg")


def test_a_figure_from_an_archive_is_drawn_for_a_venue(reader):
    reader.change(style__venue="icml")
    reader.run("mean_qkv")
    svg = ET.parse(reader.results / "figures" / "mean_qkv.svg").getroot()
    assert svg.get("width") == "234pt"


def test_other_versions_of_the_libraries_draw_anew(reader):
    with (reader.folder / "blocked" / "sitecustomize.py").open("a") as file:
        file.write("import zlib\nzlib.ZLIB_RUNTIME_VERSION = 'another'\n")
    # five figures, a second module map, probe_curves and choices
    assert reader.planned() == {"render_figure": 8, "check_redraw": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"figures__mean_qkv__layer": 1}, "config: figures.mean_qkv.layer: "),
        ({"model": "smollm2-135m", "probe__C": 1}, "config: model, probe.C: "),
        ({"figures__mean_qkv__palete": "Blues"}, "unknown key 'palete'; did you mean palette?"),
    ],
    ids=str,
)
def test_what_an_archive_cannot_show_is_refused(reader, changes, message):
    reader.change(**changes)
    reader.refuses(message)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("report", "report.html"),
        ("probe_presets", "probe_presets"),
        ("bundle", "another archive"),
    ],
)
def test_what_needs_the_model_is_refused(reader, target, what):
    reader.refuses(f"tiny.bundle.zip is not enough for {what}: run without bundle", target)


def test_a_damaged_archive_is_named_before_any_job(reader):
    whole = reader.archive.read_bytes()
    reader.archive.write_bytes(whole[:-1000])
    reader.refuses("tiny.bundle.zip cannot be read as an archive")
    reader.archive.unlink()
    reader.refuses("tiny.bundle.zip: no such file")


def test_the_run_of_the_model_needs_no_network(made, tmp_path):
    """From the model's folder to the figures, every job was refused what it asked of a network."""
    refused = subprocess.run(
        [sys.executable, "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9')"],
        env=os.environ | refuse_network(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the network is refused" in refused.stderr
    started = (made.folder / "blocked" / "started.txt").read_text()
    for log in (made.results / "logs").iterdir():
        assert f".{log.name.removesuffix('.log')}.py" in started
