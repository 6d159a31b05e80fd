"""Every family of causal language models in transformers is shown truly or refused by name."""

from dataclasses import replace

import pytest
from family_table import SHOWN, Finding, describe, measure, read_page, write_page

import families
from llm_figures.attention import attention_hook
from llm_figures.attention.proof import prove_attention
from llm_figures.core.errors import UserError

BOUND = 1e-4  # of a weight
# Of a class that norms queries and keys without weights, every map is nearly uniform.
LEAST_SHARP = 0.05


@pytest.fixture(scope="module")
def documented():
    return read_page()


def test_the_documentation_has_every_family(documented):
    assert sorted(documented) == families.list_families()
    assert sum(what == SHOWN for what in documented.values()) > 100


@pytest.mark.parametrize("family", families.list_families())
def test_a_family_is_shown_truly_or_refused_by_name(family, documented):
    found = measure(family)
    assert found.error == ""
    assert documented[family] == (found.refusal or SHOWN)
    if not found.refusal:
        assert found.attention_layers
        assert found.deviation <= BOUND
        assert found.sharpest > LEAST_SHARP  # else a wrong map would hardly differ


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
        with pytest.raises((ImportError, ValueError, AttributeError)):
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
    assert read_page(page) == {"one": SHOWN, "two": "are encoders", "three": "are encoders"}
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text


def test_an_error_is_not_documented_as_a_refusal():
    with pytest.raises(ValueError, match="one: KeyError"):
        describe([Finding("one", error="KeyError: 'x'")])
