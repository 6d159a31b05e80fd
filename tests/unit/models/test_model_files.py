"""Foreign and damaged folders: one line that says what they are and what to do."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hub
import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.expert_checks import check_experts
from llm_figures.models.folder_checks import check_folder
from llm_figures.models.loading import load_model
from llm_figures.models.options import Runtime
from llm_figures.models.safetensors_files import read_header, read_index, weight_files
from llm_figures.models.sources import prepare_model
from llm_figures.models.tokenizer_files import check_has_tokenizer, load_tokenizer
from llm_figures.workflow.model_size import find_model_size

LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 269060552\n"
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "r": 8}


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "model")


def prepare(folder, **changes):
    return prepare_model("mine", {**LOCAL, "path": str(folder), **changes})


def refused(folder, **changes):
    with pytest.raises(UserError) as caught:
        prepare(folder, **changes)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"model mine: path: {folder}: ")
    return line


def load(folder, model_info):
    (folder.parent / "model.json").write_text(json.dumps(model_info))
    return load_model(folder.parent / "model.json", Runtime(), threads=1)


def header(text):
    return struct.pack("<Q", len(text)) + text


def with_index(weight_map):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        index = weight_map if isinstance(weight_map, bytes) else json.dumps(weight_map).encode()
        (folder / "model.safetensors.index.json").write_bytes(index)

    return spoil


def with_file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


DAMAGED = {
    "header-list": (with_file("model.safetensors", header(b"[]")), "is damaged (Error while des"),
    "header-number": (with_file("model.safetensors", header(b"3")), "is damaged (Error while des"),
    "empty": (with_file("model.safetensors", b""), "is damaged (Error while des"),
    "pointer": (
        with_file("model.safetensors", POINTER),
        "model.safetensors is a Git LFS pointer, not the file itself; fetch it with: git lfs pull",
    ),
    "index-short": (with_index(b'{"weight_map": {"a": "mod'), "index.json is not JSON (JSONDec"),
    "index-empty": (with_index(b""), "index.json is not JSON (it is empty); download it again"),
    "index-list": (with_index([]), "index.json is not JSON of an object in braces, but a list"),
    "index-bare": (with_index({"metadata": {}}), "index.json has no weight_map of tensors; down"),
    "index-map-list": (with_index({"weight_map": ["a"]}), "has no weight_map of tensors"),
    "index-number": (with_index({"weight_map": {"a.b": 3}}), "weight_map: a.b: 3 is not the name"),
    "index-outside": (
        with_index({"weight_map": {"a.b": "../x.safetensors"}}),
        "weight_map: a.b: '../x.safetensors' is not the name of a file in the folder",
    ),
    "index-pointer": (with_index(POINTER), "index.json is a Git LFS pointer"),
    "config-list": (with_file("config.json", b"[]"), "config.json is not JSON of an object"),
    "config-pointer": (with_file("config.json", POINTER), "config.json is a Git LFS pointer"),
    "config-empty": (with_file("config.json", b""), "config.json is not JSON (it is empty)"),
    "config-binary": (with_file("config.json", b"\xff\xfe"), "config.json is not JSON (Unicode"),
    "tokenizer-pointer": (with_file("tokenizer.json", POINTER), "tokenizer.json is a Git LFS"),
    "tokenizer-short": (with_file("tokenizer.json", b'{"a":'), "tokenizer.json is not JSON"),
    "tokenizer-list": (with_file("tokenizer.json", b"[]"), "tokenizer.json is not JSON of an obj"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line_that_names_the_file(folder, case):
    spoil, line = DAMAGED[case]
    whole = prepare(folder)
    spoil(folder)
    assert line in refused(folder)
    # the same where a folder was damaged after it was prepared
    if "model.safetensors" not in [path.name for path in folder.iterdir()]:
        return
    with pytest.raises(UserError) as caught:
        load(folder, whole)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    if "config" not in case:
        assert line in str(caught.value)


@pytest.mark.parametrize("case", DAMAGED)
def test_planning_survives_damage(folder, case, tmp_path):
    DAMAGED[case][0](folder)
    size = find_model_size("mine", {**LOCAL, "path": str(folder)}, tmp_path / "results")
    assert size.layers in (3, 40)


def test_only_a_sentencepiece_model_needs_its_package(folder, monkeypatch):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "llm_figures.models.tokenizer_files.find_spec",
        lambda name: None if name == "sentencepiece" else find(name),
    )
    line = refused(folder)
    assert "its tokenizer is tokenizer.model alone, which needs the package sentencepiece" in line
    assert "pip install sentencepiece), or put the tokenizer.json of the model beside it" in line
    (folder / "tokenizer.model").write_bytes(POINTER)
    assert "tokenizer.model is a Git LFS pointer" in refused(folder)


def test_a_folder_without_a_tokenizer_is_one_line(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    line = refused(folder)
    assert "no tokenizer there (no tokenizer.json, tokenizer.model or vocab.json); put" in line


def test_a_tokenizer_that_was_removed_later_is_one_line(folder):
    model_info = prepare(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="its tokenizer does not load") as caught:
        load(folder, model_info)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "LlamaTokenizer", "BertTokenizer"])
def test_a_tokenizer_without_its_vocabulary_is_one_line(folder, kind):
    model_info = prepare(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    prepare(folder)
    with pytest.raises(UserError, match="its tokenizer (knows no text|does not load)") as caught:
        load(folder, model_info)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_bytes_needs_no_vocabulary(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert load_tokenizer(folder, "model mine").tokenize("é")


@pytest.mark.parametrize(
    ("path", "hinted"),
    [
        ("EleutherAI/pythia-70m", True),
        ("gpt2", False),
        ("/owner/name", False),
        ("a/b/c", False),
        ("here/gone", False),
    ],
)
def test_a_name_of_the_hub_in_place_of_a_path_is_told(tmp_path, monkeypatch, path, hinted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError) as caught:
        check_folder(Path(path), f"model mine: path: {path}")
    hint = f"; for a repository of the hub write: source: hub, repo: {path}, revision: (a commit)"
    assert str(caught.value) == f"model mine: path: {path}: no such folder{hint * hinted}"


@pytest.mark.parametrize(
    "name",
    [
        *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
        *("tekken.json", "source.spm", "qwen.tiktoken", "sentencepiece.bpe.model"),
        "tokenizer_config.json",  # alone, as of ByT5, whose tokens are bytes
    ],
)
def test_files_of_a_tokenizer_are_known_by_their_names(name):
    check_has_tokenizer(["config.json", name], "model mine")
    with pytest.raises(UserError, match="^model mine: no tokenizer there"):
        check_has_tokenizer(["config.json", "generation_config.json", "README.md"], "model mine")


SMALL_DAMAGED = {
    "generation-pointer": ("generation_config.json", POINTER, "is a Git LFS pointer"),
    "generation-empty": ("generation_config.json", b"", "is not JSON (it is empty)"),
    "generation-short": ("generation_config.json", b'{"eos_token_id": ', "is not JSON (JSONDeco"),
    "generation-list": (
        "generation_config.json",
        b"[2]",
        "is not JSON of an object in braces, but",
    ),
    "special-list": ("special_tokens_map.json", b"[]", "is not JSON of an object in braces, but a"),
    "special-pointer": ("special_tokens_map.json", POINTER, "is a Git LFS pointer"),
    "tokenizer-bare": ("tokenizer.json", b"{}", "has no model of a tokenizer; download it again"),
    "tokenizer-config": ("tokenizer_config.json", b"", "is not JSON (it is empty)"),
    "added": ("added_tokens.json", b"{", "is not JSON"),
    "template-pointer": ("chat_template.jinja", POINTER, "is a Git LFS pointer"),
    "template-json": ("chat_template.json", POINTER, "is a Git LFS pointer"),
}


@pytest.mark.parametrize("case", SMALL_DAMAGED)
def test_a_damaged_small_file_is_named(folder, case):
    name, data, line = SMALL_DAMAGED[case]
    whole = prepare(folder)
    (folder / name).write_bytes(data)
    assert f": {folder / name} {line}" in refused(folder)
    if name == "generation_config.json":  # else transformers would ignore it
        with pytest.raises(UserError, match="generation_config.json is"):
            load(folder, whole)


def spoil_config(folder, **values):
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0 is no whole number of at least 1"),
        ({"num_hidden_layers": -3}, "num_hidden_layers: -3 is no whole number of at least 1"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers: 2.5 is no whole number of at least 1"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True is no whole number of at least 1"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers: '3' is no whole number of at least 1"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers: 100000000 is more than any model has"),
        ({"num_attention_heads": 0}, "num_attention_heads: 0 is no whole number of at least 1"),
        ({"num_key_value_heads": -1}, "num_key_value_heads: -1 is no whole number of at least 1"),
        ({"hidden_size": 0}, "hidden_size: 0 is no whole number of at least 1"),
        ({"vocab_size": -384}, "vocab_size: -384 is no whole number of at least 1"),
        ({"text_config": [1]}, "text_config: [1] is no object in braces"),
        ({"vision_config": "none"}, "vision_config: 'none' is no object in braces"),
        (
            {"num_hidden_layers": 10},
            "num_hidden_layers: 10, but the weights have only 3 blocks (model.layers.0 to model.la",
        ),
    ],
)
def test_a_value_that_no_model_has_is_named_before_a_class_is_built(
    folder, values, line, monkeypatch
):
    spoil_config(folder, **values)
    monkeypatch.setattr("llm_figures.models.sources.check_folder_architecture", None)
    assert f": config.json: {line}" in refused(folder)


def test_fewer_layers_than_blocks_are_left_to_the_loader(folder):
    spoil_config(folder, num_hidden_layers=2)  # further blocks may predict further tokens
    assert prepare(folder)["layers"] == 2


def save_again(folder, weights):
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["0.w1", "2.w1", "1.w3"])
def test_a_matrix_that_one_expert_lacks_is_named(tmp_path, name):
    folder = tiny.save(tmp_path / "model", family="mixtral")
    model_info = prepare(folder)
    weights = load_file(folder / "model.safetensors")
    absent = next(one for one in sorted(weights) if f"experts.{name}" in one)
    del weights[absent]
    save_again(folder, weights)
    line = f": {absent} is in no file, unlike others of its kind; complete the download"
    assert line in refused(folder)
    with pytest.raises(UserError) as caught:
        load(folder, model_info)
    assert line in str(caught.value)


def stack(*experts, names=("up.weight", "down.weight"), layer=0):
    return [
        f"model.layers.{layer}.mlp.experts.{expert}.{name}" for expert in experts for name in names
    ]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            stack(0, 1, 3),
            "experts.2.down.weight is in no file, unlike others of its kind, and 1 mor",
        ),
        (["a.experts.1.up.scale", "a.experts.0.down.weight"], "a.experts.0.up.scale is in no file"),
        (["a.mlp.experts.up_blocks"], "a.mlp.experts.up_scales is in no file"),
        (["a.mlp.experts.up_scales", "a.bias"], "a.mlp.experts.up_blocks is in no file"),
        (["a.mlp.experts.up_blocks", "a.mlp.experts.up_scales"], ""),
        (stack(0, 1, 2), ""),
        # all experts of a block lack one kind
        (
            [*stack(0, 1), "model.layers.1.mlp.experts.0.up.weight"],
            "model.layers.1.mlp.experts.0.down.weight is in no file",
        ),
        # experts of another kind in another block
        ([*stack(0, 1, 2), "model.layers.1.mlp.experts.0.w1.weight"], ""),
        # an expert that is not quantised
        ([*stack(0, 1, 2, names=("up.qweight", "up.scales")), *stack(3, names=("up.weight",))], ""),
        # blocks of more experts, and one that is dense
        ([*stack(0, 1), *stack(0, layer=1), "model.layers.2.mlp.up.weight"], ""),
    ],
)
def test_experts_are_compared_with_those_beside_them(names, line):
    if line == "":
        check_experts(names, "model mine")
        return
    with pytest.raises(UserError, match=f"^model mine: .*{line}"):
        check_experts(names, "model mine")


def pickle_weights(folder, **how):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin", **how)
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda data: POINTER, "is a Git LFS pointer, not the file itself"),
        (lambda data: b"", "is empty; download it again"),
        (lambda data: b"<html>no such page</html>", "holds no weights as torch saves them, or on"),
        (lambda data: data[: len(data) // 2], None),
        (lambda data: data[:40], None),
    ],
)
def test_damaged_pickled_weights_are_one_line_that_names_the_file(folder, spoil, line, old):
    file = pickle_weights(folder, _use_new_zipfile_serialization=not old)
    model_info = prepare(folder, safetensors_only=False)
    file.write_bytes(spoil(file.read_bytes()))
    if not old or line:
        line = f": {file} {line or 'holds no weights'}"
        assert line in refused(folder, safetensors_only=False)
    else:  # in the old format, what is cut is known only when it is read
        line = f": {file} cannot be read; download it again"
    with pytest.raises(UserError) as caught:
        load(folder, model_info)
    assert line in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_pickle_of_more_than_weights_is_not_run(folder):
    file = pickle_weights(folder)
    torch.save({"lm_head.weight": Runtime()}, file)
    with pytest.raises(UserError, match=r"pytorch_model.bin holds more than weights; download"):
        load(folder, prepare(folder, safetensors_only=False))


def test_a_missing_part_of_pickled_weights_is_named(folder):
    file = pickle_weights(folder)
    index = {"weight_map": {"a.b": "pytorch_model-00001.bin", "c.d": "pytorch_model-00002.bin"}}
    file.rename(folder / "pytorch_model-00001.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    line = refused(folder, safetensors_only=False)
    assert "1 of 2 weight files are missing, for example pytorch_model-00002.bin" in line


def test_an_adapter_alone_is_named_and_how_to_merge_it(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))
    save_file({"a.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    line = refused(folder)
    assert "it is a PEFT adapter (LORA) of some/base, not a model; merge it into its base" in line
    assert "merge_and_unload().save_pretrained" in line
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    assert "it is a PEFT adapter (IA3), not a model" in refused(folder)
    (folder / "adapter_config.json").write_bytes(POINTER)
    assert "adapter_config.json is a Git LFS pointer" in refused(folder)


def test_an_adapter_beside_weights_is_not_ignored(folder):
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))
    line = refused(folder)
    assert (
        "adapter_config.json says that a PEFT adapter (LORA) of some/base is beside these" in line
    )
    assert "or remove adapter_config.json to use the weights without it" in line


def test_a_folder_of_adapters_is_named(tmp_path):
    for name in ("first", "second"):
        (tmp_path / "many" / name).mkdir(parents=True)
        (tmp_path / "many" / name / "adapter_config.json").write_text(json.dumps(ADAPTER))
    line = refused(tmp_path / "many")
    assert "no config.json in it, but 2 PEFT adapter(s), for example in first; choose one" in line


def test_a_model_one_folder_below_is_pointed_at(tmp_path, folder):
    folder.rename(tmp_path / "0_Transformer")
    (tmp_path / "all").mkdir()
    (tmp_path / "0_Transformer").rename(tmp_path / "all" / "0_Transformer")
    assert refused(tmp_path / "all").endswith("folder; there is one in 0_Transformer")


def test_weights_under_other_names_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    line = refused(folder)
    assert "no model.safetensors there, nor an index of several files; adapter_model.safe" in line


def test_the_same_weights_in_mistrals_format_are_not_read_twice(folder):
    alone = prepare(folder)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert prepare(folder) == alone
    size = find_model_size("mine", {**LOCAL, "path": str(folder)}, folder.parent / "results")
    assert size.parameters == alone["parameters"]
    tiny.model().save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    shards = prepare(folder)
    assert "consolidated.safetensors" not in shards["weights"]
    assert len(shards["weights"]) > 3
    assert shards["parameters"] == alone["parameters"]


def test_without_an_index_transformers_reads_one_file(folder):
    assert weight_files(folder, {}) == [folder / "model.safetensors"]
    assert read_index(folder, "model mine") == {}
    expected = load_file(folder / "model.safetensors")
    found = read_header(folder / "model.safetensors", "model mine")
    assert {name: one.shape for name, one in found.items()} == {
        name: tuple(weights.shape) for name, weights in expected.items()
    }


def test_pickled_weights_of_a_trusted_source_need_no_safetensors(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    model_info = prepare(folder, safetensors_only=False)
    assert model_info["weights"].keys() == {"pytorch_model.bin"}
    model, _ = load(folder, model_info)
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])


def test_a_trusted_source_may_have_safetensors_as_well(folder):
    model, _ = load(folder, prepare(folder, safetensors_only=False))
    expected = load_file(folder / "model.safetensors")
    assert torch.equal(model.lm_head.weight, expected["lm_head.weight"])


HUB = {"source": "hub", "repo": hub.REPO, "revision": hub.REVISION}
HUB |= {"trust_remote_code": False, "safetensors_only": True}


@pytest.fixture
def served(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with hub.serving({path.name: path.read_bytes() for path in folder.iterdir()}) as (far, address):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield far


def refused_from_hub(tmp_path):
    with pytest.raises(UserError) as caught:
        prepare_model("far", HUB, tmp_path / "cache")
    line = str(caught.value)
    assert line.startswith(f"model far: some/model at revision {hub.REVISION}: ")
    assert "\n" not in line
    return line


def test_an_adapter_of_the_hub_is_refused_before_its_download(served, tmp_path):
    served.files["adapter_config.json"] = json.dumps(ADAPTER).encode()
    assert "a PEFT adapter (LORA) of some/base is beside these weights" in refused_from_hub(
        tmp_path
    )
    assert served.downloaded == {"config.json", "adapter_config.json"}


def test_an_adapter_alone_on_the_hub_is_named(served, tmp_path):
    served.files = {
        "adapter_config.json": json.dumps(ADAPTER).encode(),
        "adapter_model.safetensors": b"",
    }
    assert "it is a PEFT adapter (LORA) of some/base, not a model" in refused_from_hub(tmp_path)
    assert served.downloaded == {"adapter_config.json"}


def test_a_quantised_model_of_the_hub_is_refused_before_its_download(served, tmp_path):
    written = json.loads(served.files["config.json"])
    written["quantization_config"] = {"quant_method": "awq", "bits": 4}
    served.files["config.json"] = json.dumps(written).encode()
    line = refused_from_hub(tmp_path)
    assert "its weights are quantised with awq, which needs packages that are not" in line
    assert served.downloaded == {"config.json"}


def test_of_the_hub_only_the_files_of_the_index_are_fetched(served, folder, tmp_path):
    tiny.model().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    del served.files["model.safetensors"]
    served.files |= {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    served.files["consolidated.safetensors"] = b"the same once more"
    served.files["original/model.safetensors"] = b"and again"
    model_info = prepare_model("far", HUB, tmp_path / "cache")
    fetched = {name for name in served.downloaded if name.endswith(".safetensors")}
    assert fetched == model_info["weights"].keys()
    assert len(fetched) > 3
    assert not [name for name in fetched if "consolidated" in name or "/" in name]


def test_a_damaged_index_of_the_hub_is_one_line(served, tmp_path):
    del served.files["model.safetensors"]
    served.files["model.safetensors.index.json"] = b'{"weight_map": {"a": '
    assert "model.safetensors.index.json is not JSON" in refused_from_hub(tmp_path)


def test_a_repository_without_a_tokenizer_is_refused_before_its_weights(served, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        del served.files[name]
    assert "no tokenizer there" in refused_from_hub(tmp_path)
    assert served.downloaded == {"config.json"}


def test_a_damaged_generation_config_is_refused_before_the_weights(served, tmp_path):
    served.files["generation_config.json"] = POINTER
    assert "generation_config.json is a Git LFS pointer" in refused_from_hub(tmp_path)
    assert "model.safetensors" not in served.downloaded


def test_more_layers_than_a_repository_holds_are_refused(served, tmp_path):
    config = json.loads(served.files["config.json"]) | {"num_hidden_layers": 7}
    served.files["config.json"] = json.dumps(config).encode()
    assert "num_hidden_layers: 7, but the weights have only 3" in refused_from_hub(tmp_path)
