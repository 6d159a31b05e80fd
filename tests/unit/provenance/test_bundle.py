"""The archive for a paper: the same bytes for the same content, and every mistake in one line."""

import hashlib
import json
import warnings
import zipfile

import pytest
import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.result_folders import portable
from llm_figures.provenance.bundle import (
    compare_redraw,
    name_folder,
    pack,
    read_bundle,
    read_members,
)
from llm_figures.workflow.config import check_config, check_redraw
from llm_figures.workflow.figures import list_scores

NEEDED = ("config.yaml", *list_scores().values())
CONTENT = {name: f"content of {name}".encode() for name in NEEDED} | {
    "config.yaml": b"model: tiny\n",
    "figures/mean_qkv.pdf": bytes(2000),
    "figures/mean_qkv.svg": "ε".encode(),
}
FACTS = {
    "model": "tiny",
    "project": {"name": "llm-figures", "version": "9.9.9"},
    "drawn_with": {"matplotlib": "1.0", "zlib": "2"},
    "left_out": ["forward/hidden_states/residual/0-of-1.parquet"],
}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "tiny.bundle.zip"
    pack(path, CONTENT, **FACTS)
    return path


def rewritten(path, change):
    """The archive with its members, [(name, content), …], changed."""
    with zipfile.ZipFile(path) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as new:
        warnings.simplefilter("ignore")  # of a name that is occurs twice
        for name, content in change(members):
            new.writestr(name, content)
    return str(path)


def with_contents(members, **changes):
    """Members with changes of bundle.json."""
    (name, text), *rest = members
    return [(name, json.dumps({**json.loads(text), **changes})), *rest]


def test_an_archive_comes_back_as_it_was_and_twice_the_same(archive, tmp_path):
    bundle = read_bundle(str(archive), NEEDED)
    assert (bundle.model, bundle.folder, bundle.config) == (
        "tiny",
        "tiny.bundle",
        {"model": "tiny"},
    )
    assert bundle.figures == ["mean_qkv.pdf", "mean_qkv.svg"]
    assert set(bundle.others) == set(NEEDED)
    assert bundle.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert read_members(archive) == CONTENT
    pack(tmp_path / "again.zip", dict(reversed(CONTENT.items())), **FACTS)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("path", ["a{x}.zip", "a\0.zip", "\udcff.zip", "a\n.zip"])
def test_a_path_that_cannot_be_an_input_is_refused(path):
    with pytest.raises(UserError) as caught:
        read_bundle(path)
    assert str(caught.value).startswith(f"config: bundle: {path!r} holds ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: [*m, ("../outside", b"x")],
            "'../outside' would be unpacked outside its folder",
        ),
        (lambda m: [*m, ("/tmp/outside", b"x")], "would be unpacked outside its folder"),
        (lambda m: [*m, ("figures/..\\x", b"x")], "would be unpacked outside its folder"),
        (lambda m: [*m, ("figures/", b"")], "would be unpacked outside its folder"),
        (lambda m: [*m, ("figures/more.pdf", b"x")], "figures/more.pdf is not listed"),
        (lambda m: [*m, m[-1]], "occurs twice"),
        (lambda m: m[1:], "has no bundle.json; it is not an archive of snakemake bundle"),
        (lambda m: m[:-1], "probe/scores.parquet is missing"),
        (
            lambda m: [*m[:-1], (m[-1][0], b"content of probe/scores.parqueT")],
            "differs from",
        ),
        (lambda m: [*m[:-1], (m[-1][0], bytes(10**6))], "differs from bundle.json"),
        (lambda m: with_contents(m, format=1), r"format 1 \(llm-figures 9.9.9\); this version rea"),
        (lambda m: with_contents(m, format="1"), "bundle.json cannot be read"),
        (lambda m: with_contents(m, files=[]), "bundle.json cannot be read"),
        (lambda m: with_contents(m, model="../x"), "bundle.json cannot be read"),
        (lambda m: [("bundle.json", b"{"), *m[1:]], "bundle.json cannot be read"),
    ],
)
def test_what_is_wrong_with_an_archive_is_one_line(archive, change, message):
    with pytest.raises(UserError, match=message) as raised:
        read_bundle(rewritten(archive, change), NEEDED)
    assert "\n" not in str(raised.value)


def test_an_archive_without_what_a_figure_needs_is_refused(tmp_path):
    path = tmp_path / "less.zip"
    pack(path, {n: c for n, c in CONTENT.items() if n != "modules/scores.parquet"}, **FACTS)
    with pytest.raises(UserError, match="modules/scores.parquet is missing in the archive"):
        read_bundle(str(path), NEEDED)


@pytest.mark.parametrize("length", [0, 10, 400, -1])
def test_a_part_of_an_archive_or_another_file_is_refused(archive, length):
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(UserError, match="cannot be read as an archive"):
        read_bundle(str(archive), NEEDED)


def test_every_single_changed_byte_is_noticed_or_harmless(archive):
    """Nothing but a UserError, and never other content."""
    whole = archive.read_bytes()
    for place in range(0, len(whole), 7):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            assert read_members(archive) == CONTENT, place
        except UserError:
            continue


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("smollm2-135m.bundle.zip", "smollm2-135m.bundle"),
        ("smollm2-135m.zip", "smollm2-135m.bundle"),
        ("smollm2-135m.bundle (1).zip", "smollm2-135m.bundle-1.bundle"),
        ("a {model}.zip", "a-model.bundle"),
        ("..zip", "bundle"),
        ("Œuvre.zip", "uvre.bundle"),
    ],
)
def test_results_drawn_from_an_archive_lie_in_a_folder_of_no_model(tmp_path, file, folder):
    assert name_folder(tmp_path / file).removeprefix(".") == folder.removeprefix(".")
    assert name_folder(tmp_path / file).endswith(".bundle")


def test_paths_of_the_machine_are_reduced_to_a_name():
    config = {
        "dataset": {
            "path": "/home/someone/mine.jsonl",
            "hold_out": "rest.jsonl",
            "name": "/x",
        },
        "model_sources": {"a": {"source": "path", "path": "~/models/a"}},
        "result_folders": ["/scratch/b", "c"],
        "prompt": {"template": "/not a path"},
    }
    assert portable(config) == {
        "dataset": {"path": "mine.jsonl", "hold_out": "rest.jsonl", "name": "/x"},
        "model_sources": {"a": {"source": "path", "path": "a"}},
        "result_folders": ["b", "c"],
        "prompt": {"template": "/not a path"},
    }


def test_the_verdict_names_what_differs_and_why(archive):
    bundle = read_bundle(str(archive), NEEDED)
    same = {name: bundle.files[f"figures/{name}"]["sha256"] for name in bundle.figures}
    record, line = compare_redraw(bundle, same, bundle.drawn_with, [])
    assert line == "2 files equal those of tiny.bundle.zip, byte for byte"
    assert record["different"] == []
    other = {**same, "mean_qkv.pdf": "0"}
    _, line = compare_redraw(bundle, other, {"matplotlib": "1.1", "zlib": "2"}, [])
    assert line == (
        "1 of 2 files equal those of tiny.bundle.zip, 1 differ (drawn with matplotlib 1.0 then, "
        "1.1 now): mean_qkv.pdf"
    )
    _, line = compare_redraw(bundle, other, bundle.drawn_with, ["style.dpi"])
    assert "(options changed: style.dpi): mean_qkv.pdf" in line
    record, line = compare_redraw(bundle, other, bundle.drawn_with, [])
    assert "(with the same options and versions of the libraries)" in line
    assert record["different"] == ["mean_qkv.pdf"]


@pytest.fixture
def written(root, default_config):
    """The default config as it stands in an archive."""
    checked, _ = check_config(default_config, root / "config" / "models.yaml")
    return yaml.safe_load(yaml.safe_dump(portable(checked), allow_unicode=True))


def test_an_archive_is_drawn_with_its_own_config(root, written, default_config):
    assert check_redraw(written, {"bundle": "x.zip"}, "x.zip") == (written, [])
    # A file that says the same, in the form of the default config, changes nothing.
    assert check_redraw(written, default_config, "x.zip") == (written, [])
    given = {
        "style": {"dpi": 200, "venue": "acl", "width": "full"},
        "figures": {
            "scale_qkv": {"palette": "Blues", "epsilon": ["5e-1", 1e-3, 1e-10]},
            "probe_auc": {"highlight": None, "limits": [0.4, 1]},
        },
    }
    config, changed = check_redraw(written, given, "x.zip")
    assert changed == [
        "figures.probe_auc.highlight",
        "figures.probe_auc.limits",
        "figures.scale_qkv.palette",
        "style.dpi",
        "style.venue",
        "style.width",
    ]
    assert config["figures"]["scale_qkv"]["palette"] == "Blues"
    assert config["figures"]["mean_qkv"] == written["figures"]["mean_qkv"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "other"}, "config: model: x.zip was made with another value"),
        ({"figures": {"scale_qkv": {"epsilon": [1]}}}, "config: figures.scale_qkv.epsilon: x.zip"),
        ({"probe": {"seed": 1}, "inputs": ["a"]}, "config: inputs, probe.seed: x.zip was made"),
        ({"style": {"dpy": 1}}, "config: style: unknown key 'dpy'; did you mean dpi"),
        ({"figures": {"mean_qkv": {"limits": [1, 0]}}}, "the first must be below the second"),
        ({"style": 3}, "config: style: 3 is not of type object"),
    ],
    ids=str,
)
def test_what_was_scored_cannot_be_set_otherwise(root, written, given, message):
    with pytest.raises(UserError, match=message):
        check_redraw(written, given, "x.zip")


def test_a_config_of_another_version_is_named_with_its_archive(root, written):
    written["figures"]["mean_qkv"]["gone"] = 1
    with pytest.raises(UserError, match=r"^x.zip: config.yaml: figures.mean_qkv: unknown key"):
        check_redraw(written, {}, "x.zip")


def test_an_unknown_users_home_is_a_file_that_is_missing():
    with pytest.raises(UserError, match=r"~nosuchuser/x\.zip: no such file"):
        read_bundle("~nosuchuser/x.zip")
