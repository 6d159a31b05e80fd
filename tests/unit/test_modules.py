import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from llm_figures.errors import UserError
from llm_figures.module_scores import operation_strength
from llm_figures.projections import PROJECTIONS, module_activity

TEXTS = [[5, 6, 7, 8, 9], [10, 11, 12]]


def test_strength_is_that_of_each_text_alone_with_padding_left_out():
    model = tiny.model(attention_bias=True)
    for block in model.get_decoder().layers:
        torch.nn.init.normal_(block.self_attn.q_proj.bias)
    scores = operation_strength(module_activity(model, TEXTS)).set_index(["layer", "module"])
    ratios = {}
    for name, path in PROJECTIONS.items():
        module = model.get_decoder().layers[1].get_submodule(path)
        module.register_forward_hook(
            lambda module, args, output, name=name: ratios.setdefault(name, []).extend(
                torch.linalg.vector_norm(args[0][0] @ module.weight.T, dim=1)
                / torch.linalg.matrix_norm(module.weight)
                / torch.linalg.vector_norm(args[0][0], dim=1)
            )
        )
    with torch.inference_mode():
        for text in TEXTS:
            model(torch.tensor([text]))
    for name, values in ratios.items():
        assert len(values) == 8
        assert scores["value"][1, name] == pytest.approx(float(sum(values)) / 8, rel=1e-4)
    assert set(scores.index.get_level_values("module")) == set(PROJECTIONS)


def test_a_random_direction_gives_one_over_root_d_in():
    random = np.random.default_rng(0)
    weight, inputs = random.normal(size=(64, 100)), random.normal(size=(500, 100))
    activity = pd.DataFrame(
        {
            "layer": 0,
            "module": "attn. q",
            "input_norm": np.linalg.norm(inputs, axis=1),
            "output_norm": np.linalg.norm(inputs @ weight.T, axis=1),
            "weight_norm": np.linalg.norm(weight),
        }
    )
    assert operation_strength(activity)["value"].item() == pytest.approx(0.1, rel=0.02)


def test_an_architecture_without_these_projections_is_refused_by_name():
    with pytest.raises(UserError, match="type gpt_neox have no linear self_attn.q_proj"):
        module_activity(tiny.model("neox"), TEXTS)
