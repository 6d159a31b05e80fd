import pytest

from llm_figures.core.options_reader import read_options
from llm_figures.probe.options import Probe
from llm_figures.probe.protocol import PRESETS, Protocol


def test_values_of_the_config_replace_those_of_the_preset():
    probe = Probe(preset="published", seed=3, C=0.5, split="folds")
    expected = PRESETS["published"].changed(C=0.5, split="folds", seed=3)
    assert probe.resolve(hold_out=False) == expected


@pytest.mark.parametrize(("split", "hold_out"), [("single", False), ("folds", True)])
def test_only_cross_validation_has_folds_and_repeats(split, hold_out):
    protocol = Probe(split=split, folds=7, repeats=3).resolve(hold_out)
    assert protocol.split == ("hold_out" if hold_out else "single")
    assert (protocol.folds, protocol.repeats) == (1, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_protocol_survives_the_plain_values_of_a_rule(preset):
    assert read_options(Protocol, PRESETS[preset].plain(), "protocol") == PRESETS[preset]
