import numpy as np
import pytest
import torch

import tiny
from llm_figures.hidden_states import residual_stream
from llm_figures.hidden_states_file import hidden_states_schema, layer_column, layer_columns
from llm_figures.tensors import read_table, read_tensors, tensor_file

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
    with tensor_file(path, hidden_states_schema(3, 32)) as file:
        for batch in residual_stream(
            model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS, batch_size=batch_size
        ):
            file.write(batch)
    assert layer_columns(path) == [layer_column(layer) for layer in range(4)]
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
    batches = residual_stream(
        model, [0, 1, 2], same, ANSWERS, [{"last_q": len(ids) - 1} for ids in same], batch_size=3
    )
    embeddings = np.concatenate([batch["layer_00"] for batch in batches])
    assert (embeddings == embeddings[0]).all()
