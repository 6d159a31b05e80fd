import hashlib
import json
import zipfile

import pytest

import tiny
from llm_figures.errors import UserError
from llm_figures.sources import prepare

GGUF = "tiny_model/tiny.gguf"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a file in it, and a package index that is a folder with this wheel."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(GGUF, b"not really weights")
        info = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
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


def left(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("changes", [{"wheel_sha256": "0" * 64}, {"wheel_size": 1}])
def test_a_wheel_that_differs_is_refused_and_removed(wheel, tmp_path, changes):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"tiny_model-1.0.*expected.*refused and removed"):
        prepare("tiny", entry(wheel, **changes), cache)
    assert left(cache) == []


def test_a_file_that_differs_is_refused_and_its_wheel_removed(wheel, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"tiny.gguf has sha256 .* refused, and .* removed"):
        prepare("tiny", entry(wheel, file_sha256="0" * 64), cache)
    assert left(cache) == []


def test_a_tampered_wheel_in_the_cache_is_refused_and_fetched_again_next_time(wheel, tmp_path):
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / wheel.name).write_bytes(b"tampered")
    with pytest.raises(UserError, match="refused and removed"):
        prepare("tiny", entry(wheel), cache)
    # The second try fetches the real wheel and gets as far as its weights, which are none.
    with pytest.raises(Exception, match=r"(?i)gguf|magic|invalid"):
        prepare("tiny", entry(wheel), cache)
    assert sorted(path.name for path in left(cache)) == sorted(
        [wheel.name, f"{entry(wheel)['file_sha256'][:12]}-tiny.gguf"]
    )


def test_a_missing_package_or_file_is_one_clear_line(wheel, tmp_path):
    with pytest.raises(UserError, match=r"tiny-model==2.0 cannot be fetched .*ERROR") as caught:
        prepare("tiny", entry(wheel, version="2.0"), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="holds no other.gguf; correct `file`"):
        prepare("tiny", entry(wheel, file="other.gguf"), tmp_path / "cache")


LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}


def test_a_local_folder_is_described_as_it_is(tmp_path):
    folder = tiny.save(tmp_path / "model")
    card = prepare("mine", {**LOCAL, "path": str(folder)}, tmp_path)
    assert card["folder"] == str(folder)
    assert (card["layers"], card["heads"], card["hidden_size"]) == (3, 4, 32)
    weights = (folder / "model.safetensors").read_bytes()
    assert card["weights"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert prepare("mine", {**LOCAL, "path": str(folder)}, tmp_path) == card
    trusted = {**LOCAL, "path": str(folder), "safetensors_only": False}
    assert prepare("mine", trusted, tmp_path)["weights"] == {
        **card["weights"],
        "pytorch_model.bin": hashlib.sha256(b"pickle").hexdigest(),
    }


def test_folders_without_config_or_safetensors_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        prepare("mine", {**LOCAL, "path": str(tmp_path / "nowhere")}, tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        prepare("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no \.safetensors weights .* safetensors_only: false"):
        prepare("mine", {**LOCAL, "path": str(tmp_path)}, tmp_path)


def test_missing_shards_of_a_local_folder_are_named(tmp_path):
    folder = tiny.save(tmp_path / "model")
    names = {"a": "model.safetensors", "b": "model-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UserError, match=r"1 of 2 weight files are missing.*model-00002"):
        prepare("mine", {**LOCAL, "path": str(folder)}, tmp_path)


HUB = {
    "source": "hub",
    "repo": "some/model",
    "revision": "0" * 40,
    "trust_remote_code": False,
    "safetensors_only": True,
}


@pytest.fixture
def refusing_hub(tmp_path, monkeypatch):
    """A hub that refuses connections, and the folder where its cache has the model's snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tmp_path / "models--some--model" / "snapshots" / HUB["revision"]


def test_a_refused_connection_to_the_hub_is_one_clear_line(refusing_hub, tmp_path):
    with pytest.raises(UserError) as caught:
        prepare("far", HUB, tmp_path)
    line = str(caught.value)
    assert line.startswith(f"model far: some/model at revision {HUB['revision']} cannot be fetched")
    assert "refused" in line
    assert "\n" not in line


def test_a_hub_model_in_the_cache_needs_no_connection(refusing_hub, tmp_path):
    refusing_hub.parent.mkdir(parents=True)
    tiny.save(refusing_hub)
    assert prepare("far", HUB, tmp_path)["folder"] == str(refusing_hub)
