import json
import re
from importlib.metadata import version

import pytest
import torch
from accelerate import dispatch_model
from safetensors.torch import load_file, save_file

import tiny
from llm_figures.attention.capture import capture_attention
from llm_figures.attention.interventions import Intervention
from llm_figures.core.errors import UserError
from llm_figures.inference.generation import generate
from llm_figures.models.loading import (
    _resolve_dtype,
    input_device,
    load_model,
    make_device_map,
    runtime_facts,
)
from llm_figures.models.options import Runtime
from llm_figures.models.sources import prepare_model
from llm_figures.modules.activity import measure_activity
from llm_figures.probe.hidden_states import extract_hidden_states


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "model")


def load(folder, **options):
    entry = {"path": str(folder), "source": "path"}
    model_info = prepare_model(
        "mine", {**entry, "trust_remote_code": False, "safetensors_only": True}
    )
    (folder.parent / "model.json").write_text(json.dumps(model_info))
    return load_model(folder.parent / "model.json", Runtime(**options), threads=1)


def test_a_prepared_model_loads_as_it_was_saved(folder):
    model, tokenizer = load(folder)
    expected = tiny.model().state_dict()
    assert all((expected[name] == weight).all() for name, weight in model.state_dict().items())
    assert tokenizer("the lamp")["input_ids"] == tiny.tokenizer()("the lamp")["input_ids"]
    assert not model.training


def test_missing_weights_are_named_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    gone = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensor\(s\) missing .* model.layers.1.mlp.up_proj"):
        load(folder)
    weights["model.layers.1.mlp.up_proj.weight"] = gone[:-1]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"do not fit .* of another shape.*up_proj"):
        load(folder)


def test_damaged_weights_are_one_clear_line(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="model.safetensors is damaged") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_named_before_anything_is_loaded(folder):
    load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is missing or incomplete on .* prepare_model"):
        load_model(folder.parent / "model.json", Runtime())


def test_for_a_missing_or_unshared_folder_the_message_says_what_to_do(folder):
    load(folder)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UserError, match="is missing or incomplete on .* prepare_model") as caught:
        load_model(folder.parent / "model.json", Runtime())
    assert "XDG_CACHE_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_facts_of_a_loaded_model_are_its_own(folder):
    model, _ = load(folder)
    assert runtime_facts(model) == {
        "device": "cpu",
        "device_names": ["cpu"],
        "dtype": "float32",
        "attention": "sdpa",
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
        "cuda": None,
    }
    model.set_attn_implementation("eager")
    model.lm_head.to(torch.bfloat16)
    assert runtime_facts(model)["attention"] == "eager"
    assert runtime_facts(model)["dtype"] == "bfloat16+float32"


def test_a_checkpoint_is_computed_in_float32_on_the_cpu_unless_asked(tmp_path):
    folder = tmp_path / "model"
    tiny.model().to(torch.bfloat16).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    for dtype, expected in (("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")):
        model, _ = load(folder, device="cpu", dtype=dtype)
        assert runtime_facts(model)["dtype"] == expected


@pytest.mark.parametrize(
    ("capability", "own", "taken"),
    [((7, 5), "bfloat16", torch.float32), ((7, 5), "float16", "auto"), ((7, 5), None, "auto"),
     ((8, 0), "bfloat16", "auto"), ((9, 0), "float32", "auto")],
)  # fmt: skip
def test_a_gpu_without_bfloat16_takes_float32_instead(monkeypatch, capability, own, taken):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "An Old GPU")
    assert _resolve_dtype("auto", CUDA, own) == taken
    if capability < (8, 0):
        with pytest.raises(UserError, match="^config: dtype: bfloat16: An Old GPU does not comp"):
            _resolve_dtype("bfloat16", CUDA, own)
    assert _resolve_dtype("float16", CUDA, own) == torch.float16


def test_mps_without_a_type_takes_float32_instead():
    """On a machine without mps, which has none of its types."""
    mps = torch.device("mps")
    assert _resolve_dtype("auto", mps, "float64") == torch.float32
    if not torch.backends.mps.is_available():
        assert _resolve_dtype("auto", mps, "bfloat16") == torch.float32


def test_nothing_is_made_float64_on_the_device(root):
    """Apple's mps has no float64: what needs it is taken to the CPU first."""
    for path in (root / "scripts").rglob("*.py"):
        text = path.read_text()
        assert ".double().cpu()" not in text, path
        assert not re.search(r"\.to\(torch\.float64\)|\bdtype=torch\.float64, device=", text), path


CUDA = torch.device("cuda")  # named, never used
KNOWN = {"local_files_only": True, "trust_remote_code": False}


def test_a_device_map_needs_gpus(folder):
    with pytest.raises(UserError, match=r"^config: device_map: auto: there is no GPU here"):
        load(folder, device="cpu", device_map="auto")


@pytest.mark.parametrize("kind", ["auto", "balanced", "sequential"])
def test_every_block_is_whole_on_one_gpu(folder, kind):
    changed = tiny.model(num_hidden_layers=12)
    changed.save_pretrained(folder)
    size = 4 * sum(weights.numel() for weights in changed.parameters())
    places = make_device_map(folder, torch.float32, kind, KNOWN, CUDA, {0: size, 1: size, 2: size})
    assert set(places.values()) <= {0, 1, 2}
    for name, _ in changed.named_parameters():
        within = [part for part in places if f"{name}.".startswith(f"{part}.")]
        assert len(within) == 1, name
    assert not [part for part in places if part.startswith("model.layers.") and part.count(".") > 2]
    blocks = {gpu for part, gpu in places.items() if part.startswith("model.layers")}
    assert (blocks == {0}) if kind == "sequential" else (len(blocks) > 1)


def test_too_little_room_is_refused_and_named(folder):
    small = {0: 60_000, 1: 60_000}
    with pytest.raises(UserError, match=r"does not fit the 2 GPU\(s\) here, .* would be off them"):
        make_device_map(folder, torch.float32, "auto", KNOWN, CUDA, small)
    with pytest.raises(UserError, match=r"model\.layers.* would be off them"):
        make_device_map(folder, torch.float32, "sequential", KNOWN, CUDA, {0: 180_000, 1: 1000})


def test_every_stage_runs_on_a_dispatched_model():
    """Accelerate's hooks between the parts, as on several GPUs, here all on the CPU."""
    names = ["embed_tokens", "norm", "rotary_emb", *(f"layers.{layer}" for layer in range(3))]
    where = {f"model.{name}": "cpu" for name in names} | {"lm_head": "cpu"}
    found = []
    for model in (
        tiny.model(),
        dispatch_model(tiny.model(), where, main_device="cpu", force_hooks=True),
    ):
        assert input_device(model) == torch.device("cpu")
        prompts = [[5, 6, 7, 8], [5, 6, 9, 3], [5, 6, 7, 8, 9]]
        said = generate(model, tiny.tokenizer(), prompts, stop=[], max_new_tokens=4, batch_size=2)
        states = extract_hidden_states(
            model, [0, 1, 2], prompts, [[1], [2], [3]], [{"last_q": 3}] * 3, batch_size=2
        )
        intervened = {layer: Intervention("key", "mean", "tokens") for layer in range(3)}
        seen = capture_attention(model, prompts[2], range(3), intervened, rotation=True)
        found.append(
            (
                [answer for batch in said for answer in batch],
                [batch["layer_03"].tolist() for batch in states],
                [(state.query.tolist(), state.rotation.cos.tolist()) for state in seen.values()],
                measure_activity(model, prompts).to_dict("list"),
            )
        )
    assert hasattr(model.model.layers[0], "_hf_hook")
    assert found[0] == found[1]
