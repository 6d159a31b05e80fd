import numpy as np
import pytest
import torch

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, read_tensors, tensor_file
from llm_figures.probe.hidden_states import NO_POSITION, cast_states, extract_hidden_states
from llm_figures.probe.schema import layer_column, make_hidden_states_schema, read_layer_columns

PREFIX = [7, 8, 9, 10, 11, 12, 13]
PROMPTS = [[*PREFIX, 20, 21], [*PREFIX, 22], [*PREFIX, 23, 24, 25]]
ANSWERS = [[30, 31, 32], [33], [34, 35]]
POSITIONS = [
    {"last_q": 8, "first_answer": 9, "-1": 11},
    {"last_q": 7, "-1": 8},
    {"last_q": 9, "first_answer": 10, "-1": 11},
]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "neox"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_states_are_those_of_a_plain_pass(family, batch_size, tmp_path):
    model = tiny.model(family)
    path = tmp_path / "states.parquet"
    with tensor_file(path, make_hidden_states_schema(3, 32)) as file:
        for batch in extract_hidden_states(
            model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS, batch_size=batch_size
        ):
            file.write(batch)
    assert read_layer_columns(path) == [layer_column(layer) for layer in range(4)]
    table = read_table(path)
    rows = table.select(["question_id", "token", "position"]).to_pylist()
    assert len(rows) == sum(map(len, POSITIONS))

    # Blocks' outputs, by hooks of the test's own: output_hidden_states norms the last one.
    outputs = {}
    blocks = model.get_decoder().layers
    for index, block in enumerate(blocks):
        block.register_forward_hook(
            lambda module, args, output, index=index: outputs.__setitem__(index + 1, output)
        )
    for row_index, row in enumerate(rows):
        question = row["question_id"] - 4
        assert POSITIONS[question][row["token"]] == row["position"]
        with torch.inference_mode():
            expected = model(
                torch.tensor([PROMPTS[question] + ANSWERS[question]]), output_hidden_states=True
            ).hidden_states
        for layer in range(4):
            full = outputs[layer] if layer else expected[0]
            full = full[0] if isinstance(full, tuple) else full
            found = read_tensors(table, layer_column(layer))[row_index]
            np.testing.assert_allclose(
                found, full[0, row["position"]].numpy(), rtol=1e-5, atol=1e-4
            )
            if layer < 3:
                np.testing.assert_allclose(
                    found, expected[layer][0, row["position"]], rtol=1e-5, atol=1e-4
                )


def test_equal_tokens_have_equal_embeddings_to_the_bit():
    model = tiny.model()
    same = [[*PREFIX, 20], [*PREFIX, 22, 20], [*PREFIX, 23, 24, 20]]
    batches = extract_hidden_states(
        model, [0, 1, 2], same, ANSWERS, [{"last_q": len(ids) - 1} for ids in same], batch_size=3
    )
    embeddings = np.concatenate([batch["layer_00"] for batch in batches])
    assert (embeddings == embeddings[0]).all()


@pytest.mark.parametrize("family", ["llama", "gemma2", "neox"])
@pytest.mark.parametrize("site", ["attention", "mlp", "mlp_input"])
def test_a_site_is_the_output_or_input_of_a_module_of_the_block(family, site):
    model = tiny.model(family)
    names = {"attention": ("self_attn", "attention")}.get(site, ("mlp",))
    outputs = {}
    for layer, block in enumerate(model.get_decoder().layers, start=1):
        part = next(getattr(block, name) for name in names if hasattr(block, name))
        part.register_forward_hook(
            lambda module, args, output, layer=layer: outputs.__setitem__(
                layer,
                args[0] if site == "mlp_input" else output[0] if type(output) is tuple else output,
            )
        )
    (found,) = extract_hidden_states(
        model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS, site=site, batch_size=3
    )
    for row, (question, token) in enumerate(zip(found["question_id"], found["token"], strict=True)):
        with torch.inference_mode():
            embedded = model(
                torch.tensor([PROMPTS[question - 4] + ANSWERS[question - 4]]),
                output_hidden_states=True,
            ).hidden_states[0]
        at = POSITIONS[question - 4][token]
        for layer in range(1, 4):
            np.testing.assert_allclose(
                found[f"layer_0{layer}"][row], outputs[layer][0, at], rtol=1e-4, atol=1e-4
            )
        np.testing.assert_allclose(found["layer_00"][row], embedded[0, at], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("site", ["residual", "mlp_input", "head"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_of_several_positions_the_mean_is_taken(site, batch_size):
    """The mean of what is found at each of them, whatever else is in the batch."""
    model = tiny.model()
    whole = [
        range(len(prompt), len(prompt) + len(answer))
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    each = [{f"at {position}": position for position in span} for span in whole]
    options = {"site": site, "batch_size": batch_size}
    apart, means, beside = (
        list(extract_hidden_states(model, [4, 5, 6], PROMPTS, ANSWERS, positions, **options))
        for positions in (
            each,
            [{"answer_mean": span} for span in whole],
            [named | {"answer_mean": span} for named, span in zip(POSITIONS, whole, strict=True)],
        )
    )
    for layer in map(layer_column, range(4)):
        expected = {
            question: np.mean(
                [
                    state
                    for batch in apart
                    for key, state in zip(batch["question_id"], batch[layer], strict=True)
                    if key == question
                ],
                axis=0,
            )
            for question in (4, 5, 6)
        }
        for batch in means:
            assert set(batch["position"]) == {NO_POSITION}
            for question, state in zip(batch["question_id"], batch[layer], strict=True):
                np.testing.assert_allclose(state, expected[question], rtol=1e-6, atol=1e-6)
    found, again = (
        {
            question: state
            for batch in batches
            for question, token, state in zip(
                batch["question_id"], batch["token"], batch["layer_03"], strict=True
            )
            if token == "answer_mean"
        }
        for batches in (means, beside)
    )
    for question, state in found.items():
        assert (state == again[question]).all()


def test_a_mean_does_not_depend_on_the_batch():
    model = tiny.model()
    positions = [{"answer_mean": range(len(prompt), len(prompt) + 1)} for prompt in PROMPTS]
    positions[0] = {"answer_mean": range(9, 12)}
    found = [
        {
            question: state
            for batch in extract_hidden_states(
                model, [4, 5, 6], PROMPTS, ANSWERS, positions, batch_size=size, prefix=PREFIX
            )
            for question, state in zip(batch["question_id"], batch["layer_02"], strict=True)
        }
        for size in (1, 2, 3)
    ]
    for other in found[1:]:
        for question, state in found[0].items():
            np.testing.assert_array_equal(state, other[question])


@pytest.mark.parametrize("site", ["mlp", "mlp_input"])
def test_nothing_stays_on_the_model(site):
    model = tiny.model()
    before = model(torch.tensor([PROMPTS[0]])).logits
    list(
        extract_hidden_states(
            model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS, site=site, batch_size=3
        )
    )
    assert torch.equal(before, model(torch.tensor([PROMPTS[0]])).logits)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_state_that_is_not_finite_is_named():
    model = tiny.model()
    with torch.no_grad():
        model.get_decoder().layers[1].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(UserError, match=r"layer 2 .* not finite at .* of question 4, .*float32"):
        list(
            extract_hidden_states(model, [4], PROMPTS[:1], ANSWERS[:1], POSITIONS[:1], batch_size=3)
        )


@pytest.mark.parametrize("site", ["residual", "head"])
def test_float16_rounds_what_float32_has(site):
    model = tiny.model()
    found = [
        next(
            extract_hidden_states(
                *(model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS),
                **{"site": site, "batch_size": 3, "states_dtype": dtype},
            )
        )
        for dtype in ("float32", "float16")
    ]
    for layer in range(4):
        full, half = (batch[layer_column(layer)] for batch in found)
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, full.astype(np.float16))
        assert (half != full).any()


@pytest.mark.parametrize(("largest", "fits"), [(65504, True), (-65504, True), (65505, False)])
def test_a_value_beyond_float16_is_named(largest, fits):
    states = np.ones((3, 4), np.float32)
    states[1, 2] = largest
    keys = {"question_id": [4, 5, 6], "token": ["-1", "last_q", "-1"]}
    if fits:
        assert np.isfinite(cast_states("layer 2", states, keys, "float16")).all()
    else:
        with pytest.raises(
            UserError,
            match=r"^config: states_dtype: float16: layer 2 has a value of 65,505 at last_q of "
            r"question 5, and float16 ends at 65,504; set states_dtype: float32$",
        ):
            cast_states("layer 2", states, keys, "float16")
    assert cast_states("layer 2", states, keys, "float32") is states


def test_an_extraction_stops_at_a_value_beyond_float16():
    model = tiny.model()
    with torch.no_grad():
        model.get_decoder().layers[1].mlp.down_proj.weight[0] *= 1e7
    arguments = (model, [4], PROMPTS[:1], ANSWERS[:1], POSITIONS[:1])
    assert [*extract_hidden_states(*arguments, batch_size=3)]
    with pytest.raises(UserError, match=r"states_dtype: float16: layer 2 has a value of .*float32"):
        list(extract_hidden_states(*arguments, batch_size=3, states_dtype="float16"))


def test_layers_without_the_site_are_named():
    model = families.tiny_model("jamba").eval()
    kinds = model.config.layers_block_type
    without = ", ".join(str(layer) for layer, kind in enumerate(kinds) if kind != "attention")
    assert without
    assert "attention" in kinds
    with pytest.raises(UserError) as caught:
        list(
            extract_hidden_states(
                model,
                [4],
                PROMPTS[:1],
                ANSWERS[:1],
                POSITIONS[:1],
                site="attention",
                batch_size=3,
            )
        )
    assert str(caught.value) == (
        f"config: probe.site: attention: layer(s) {without} of this jamba model have no attention "
        "(self_attn, attention, attn, self_attention); use residual"
    )


def test_a_module_under_an_unknown_name_is_refused():
    model = tiny.model()
    for block in model.get_decoder().layers:
        block.feed = block.mlp
        del block.mlp
    with pytest.raises(
        UserError, match=r"probe.site: mlp: .* llama have no module of a known name"
    ):
        list(
            extract_hidden_states(
                model, [4], PROMPTS[:1], ANSWERS[:1], POSITIONS[:1], site="mlp", batch_size=3
            )
        )
