"""The text decoder inside models that also see: on text it does what the whole model does."""

import json

import pytest
import torch

import multimodal
import tiny
from llm_figures.attention.capture import capture_attention
from llm_figures.attention.proof import prove_attention
from llm_figures.core.errors import UserError
from llm_figures.inference.generation import generate
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.decoders import decoder_layers
from llm_figures.models.loading import context_length, load_model
from llm_figures.models.options import Runtime
from llm_figures.models.sources import prepare_model
from llm_figures.modules.activity import measure_activity
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.workflow.model_size import find_model_size

LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}
IDS = [5, 6, 7, 8, 9, 10, 11, 12]
CHAT = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module", params=multimodal.CONFIGS)
def loaded(request, tmp_path_factory):
    """(the model as it was saved, its folder's model info, the model as it is loaded)."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    model = multimodal.model(request.param)
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    model_info = prepare_model("mine", {**LOCAL, "path": str(folder)})
    path = folder.parent / "model.json"
    path.write_text(json.dumps(model_info))
    return model, model_info, load_model(path, Runtime(), threads=1)


def test_its_logits_are_those_of_the_whole_model(loaded):
    """Also for Qwen's rotary embedding with three positions, which are equal on text."""
    model, _, (found, _) = loaded
    ids = torch.tensor([IDS])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
        assert (found(input_ids=ids).logits - expected).abs().max() < 1e-5
        hidden = found.get_decoder()(input_ids=ids).last_hidden_state
        assert (found.lm_head(hidden) - expected).abs().max() < 1e-5
    assert expected.std() > 0.1


def test_its_attention_and_states_are_those_of_the_whole_model(loaded):
    model, _, (found, _) = loaded
    captured = capture_attention(found, IDS, range(3))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        whole = model(
            input_ids=torch.tensor([IDS]), output_attentions=True, output_hidden_states=True
        )
    for layer, weights in enumerate(whole.attentions[-3:]):
        own = captured[layer].to_states(1, layer).compute_weights()
        assert abs(own - weights[0].numpy()).max() < 1e-5
    (batch,) = extract_hidden_states(
        found, [0], [IDS[:-2]], [IDS[-2:]], [{"last": len(IDS) - 1}], batch_size=1
    )
    for layer in range(3):
        expected = whole.hidden_states[-4:][layer][0, -1].numpy()
        assert abs(batch[f"layer_{layer:02}"][0] - expected).max() < 1e-5
    model.set_attn_implementation("sdpa")


def test_it_proves_its_maps(loaded):
    proof = prove_attention(loaded[2][0])
    assert proof.attention_layers == (0, 1, 2)
    assert proof.deviation < 1e-5


def test_its_answers_are_those_of_the_whole_model(loaded):
    """With the cache of a shared prefix, and prompts of different lengths in a batch."""
    model, _, (found, tokenizer) = loaded
    prompts = [IDS, [*IDS[:4], 20, 21], [*IDS[:4], 30, 31, 32]]
    batches = generate(found, tokenizer, prompts, stop=[], max_new_tokens=5, batch_size=3)
    answers = {one.index: list(one.answer_ids) for batch in batches for one in batch}
    for index, prompt in enumerate(prompts):
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(5):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected = ids[len(prompt) :]
        assert answers[index] == expected[: len(answers[index])]
        assert len(answers[index]) == 5 or expected[len(answers[index])] == 0


def test_its_matrices_are_found_in_its_files(loaded):
    _, model_info, (found, _) = loaded
    checkpoint = Checkpoint(model_info["folder"], "model mine")
    assert checkpoint.layers == 3
    for layer, block in enumerate(decoder_layers(found)):
        for projection, linear in (
            ("attn. q", block.self_attn.q_proj),
            ("attn. v", block.self_attn.v_proj),
            ("mlp. down", block.mlp.down_proj),
        ):
            (matrix,) = checkpoint.matrices(layer, projection)
            assert torch.equal(matrix, linear.weight)
    assert len(measure_activity(found, [IDS])) == 3 * 7 * len(IDS)


def test_it_is_described_by_its_text_decoder(loaded, tmp_path):
    model, model_info, (found, tokenizer) = loaded
    sizes = [model_info[key] for key in ("layers", "heads", "key_value_heads", "hidden_size")]
    assert sizes == [3, 4, 2, 32]
    assert (model_info["head_dim"], model_info["vocabulary"]) == (8, 384)
    assert model_info["model_type"] == model.config.get_text_config().model_type
    assert context_length(found) == 512
    assert tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    size = find_model_size("other", {**LOCAL, "path": model_info["folder"]}, tmp_path)
    assert (size.layers, size.hidden_size, size.vocabulary) == (3, 32, 384)


def test_a_tensor_without_a_place_in_its_decoder_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    multimodal.model("llava").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    start = next(name for name in weights if "vision" not in name and ".layers.1." in name)
    start = start.split(".layers.1.")[0]
    weights[f"{start}.layers.1.self_attn.q_proj.bias"] = torch.ones(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model_info = prepare_model("mine", {**LOCAL, "path": str(folder)})
    (tmp_path / "model.json").write_text(json.dumps(model_info))
    with pytest.raises(UserError, match=r"layers\.1\.self_attn\.q_proj\.bias"):
        load_model(tmp_path / "model.json", Runtime(), threads=1)
