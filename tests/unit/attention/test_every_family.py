"""Every family of causal language models in transformers is shown truly or refused by name."""

from dataclasses import replace

import pytest
from family_table import Finding, describe, measure, measure_model, read_page, summarize, write_page
from transformers import CONFIG_MAPPING

import families
from llm_figures.attention import attention_hook
from llm_figures.attention.proof import prove_attention
from llm_figures.core.errors import UserError
from llm_figures.models.architectures import check_architecture

BOUND = 1e-4  # of a weight
# Of a class that norms queries and keys without weights, every map is nearly uniform.
LEAST_SHARP = 0.05


@pytest.fixture(scope="module")
def documented():
    return read_page()


def test_the_documentation_has_every_family(documented):
    assert sorted(documented) == families.list_families()
    assert sum(len(what) > 1 for what in documented.values()) > 100


@pytest.mark.parametrize("family", families.list_families())
def test_a_family_is_shown_truly_or_refused_by_name(family, documented):
    found = measure(family)
    assert found.error == ""
    assert documented[family] == summarize(found), "run benchmarks/family_table.py --write"
    if not found.refusal:
        check_truth(found)


def check_truth(found):
    assert found.attention_layers
    assert found.deviation <= BOUND
    assert found.sharpest > LEAST_SHARP  # else a wrong map would hardly differ


def rotated(**options):
    return {"rope_parameters": {"rope_theta": 10000.0, **options}}


@pytest.mark.parametrize(
    ("family", "changes", "masks"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, {"causal"}),
        ("gpt_bigcode", {"multi_query": False}, {"causal"}),
        ("mistral", {"sliding_window": None}, {"causal"}),
        ("phimoe", {"sliding_window": None}, {"causal"}),
        ("gemma2", {"attn_logit_softcapping": None}, {"causal", "window 8"}),
        ("gemma4_text", {"attention_k_eq_v": True}, {"causal", "window 8"}),
        ("gemma4_text", {"enable_moe_block": True, "num_experts": 4}, {"causal", "window 8"}),
        ("deepseek_v3", {"q_lora_rank": None}, {"causal"}),
        ("deepseek_v32", {"index_topk": 200}, {"causal"}),  # all keys of the text
        ("granite", {"attention_multiplier": 0.3}, {"causal"}),
        ("llama", rotated(rope_type="dynamic", factor=2.0), {"causal"}),
        (
            "qwen2",
            rotated(rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
            {"causal", "window 8"},
        ),
    ],
)
def test_variants_of_a_family_are_shown_truly(family, changes, masks):
    found = Finding(family)
    measure_model(families.tiny_model(family, **changes), found)
    check_truth(found)
    assert found.masks == masks


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gemma3_text", {"use_bidirectional_attention": True}, "attend to all others"),
        ("gpt2", {"add_cross_attention": True}, "2 attentions in layer 0"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "attention interface in layer 0"),
    ],
)
def test_variants_that_cannot_be_shown_are_refused(family, changes, message):
    with pytest.raises(UserError, match=message):
        check_architecture(families.tiny_config(family, **changes), "tiny")
        measure_model(families.tiny_model(family, **changes), Finding(family))


def test_tiny_models_have_every_kind_of_layer():
    lost = {}
    for family in families.list_families():
        default = families.default_config(CONFIG_MAPPING[family]).get_text_config(decoder=True)
        small = families.tiny_config(family).get_text_config(decoder=True)
        for name in ("layer_types", "mlp_layer_types"):
            missing = kinds_of(default, name) - kinds_of(small, name)
            if missing:
                lost[family, name] = missing
    assert not lost


def kinds_of(config, name):
    kinds = config.to_dict().get(name)
    return set(kinds) if isinstance(kinds, list) else set()


@pytest.mark.parametrize(
    ("family", "part", "measured"),
    [
        ("mistral", "window", "measure_deviation"),
        ("phimoe", "window", "measure_deviation"),
        ("gemma2", "softcap", "measure_deviation"),
        ("doge", "bias", "measure_deviation"),
        ("inkling_text", "bias", "measure_deviation"),
        ("llama4_text", "bias", "measure_deviation"),
        ("minimax_m3_vl_text", "bias", "measure_deviation"),
        ("deepseek_v32", "bias", "measure_deviation"),
        ("gpt_oss", "sinks", "measure_output_deviation"),
        ("granite_swa", "sinks", "measure_output_deviation"),
        ("inkling2_text", "sinks", "measure_output_deviation"),
    ],
)
def test_a_model_whose_maps_lack_a_part_is_refused(family, part, measured, monkeypatch):
    model = families.tiny_model(family)
    assert prove_attention(model).deviation <= BOUND
    original = getattr(attention_hook, measured)
    monkeypatch.setattr(
        attention_hook,
        measured,
        lambda captured, *args: original(replace(captured, **{part: None}), *args),
    )
    with pytest.raises(UserError, match="differ from the model's own by"):
        prove_attention(model)


def test_what_cannot_be_built_is_still_so():
    kinds = families.UNBUILT
    assert set(kinds) < set(families.list_families())
    for kind in kinds:
        with pytest.raises((ImportError, ValueError, TypeError, AttributeError)):
            families.tiny_model(kind)


def test_the_table_on_the_page_is_what_was_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- families: begin -->\nold\n<!-- families: end -->\nAfter\n")
    table = describe(
        [
            Finding("one", deviation=2.4e-6, layers=4, attention_layers=(1, 3), masks={"causal"}),
            Finding("two", refusal="are encoders"),
            Finding("three", refusal="are encoders"),
        ]
    )
    assert "| `one` | 2e-6 | 2 of 4 | causal | no | no |" in table
    assert "2 types are refused" in table
    write_page(table, page)
    assert read_page(page) == {
        "one": ["2 of 4", "causal", "no", "no"],
        "two": ["are encoders"],
        "three": ["are encoders"],
    }
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text


def test_an_error_is_not_documented_as_a_refusal():
    with pytest.raises(ValueError, match="one: KeyError"):
        describe([Finding("one", error="KeyError: 'x'")])
