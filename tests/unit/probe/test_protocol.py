import pytest

from llm_figures.core.options_reader import read_options
from llm_figures.probe.options import Highlight, Probe
from llm_figures.probe.protocol import PRESETS, TOKENS, Protocol
from llm_figures.probe.protocol_text import describe_intervals, describe_method


def test_values_of_the_config_replace_those_of_the_preset():
    probe = Probe(preset="published", seed=3, C=0.5, split="folds")
    expected = PRESETS["published"].changed(C=0.5, split="folds", seed=3)
    assert probe.resolve(hold_out=False) == expected


@pytest.mark.parametrize(
    ("split", "hold_out"), [("single", False), ("folds", True), ("group_folds", True)]
)
def test_only_cross_validation_has_folds_and_repeats(split, hold_out):
    protocol = Probe(split=split, folds=7, repeats=3).resolve(hold_out)
    assert protocol.split == ("hold_out" if hold_out else "single")
    assert (protocol.folds, protocol.repeats) == (1, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_protocol_survives_the_plain_values_of_a_rule(preset):
    assert read_options(Protocol, PRESETS[preset].plain(), "protocol") == PRESETS[preset]


def test_folds_by_group_are_folds_and_say_so():
    protocol = Probe(split="group_folds", folds=7, repeats=3).resolve(hold_out=False)
    assert (protocol.split, protocol.folds, protocol.repeats) == ("group_folds", 7, 3)
    assert "; 7 folds by group, whole groups in the test set, 3 times; " in describe_method(
        protocol
    )
    assert describe_intervals(protocol) == describe_intervals(PRESETS["strict"])


@pytest.mark.parametrize(
    ("tokens", "columns"),
    [
        (["last_q", "exact_answer_last"], [(1, 1)]),
        (["last_q"], []),
        (["last_q", "first_answer", "exact_answer_first", "-1"], [(1, 3)]),
        (["-1", "last_q", "exact_answer_last", "-2"], [(0, 0), (2, 3)]),
        (["-1", "first_answer"], [(0, 1)]),
        (["-2", "-1", "stop", "answer_mean"], [(0, 1)]),
    ],
    ids=["one", "none", "several", "two runs", "both ends", "after the answer"],
)
def test_the_default_rectangle_is_around_what_of_it_is_shown(tokens, columns):
    assert Highlight().find_columns(tokens) == columns
    assert Highlight(layers=[1, 2]).find_columns(tokens) == columns


def test_a_chosen_rectangle_is_from_one_token_to_the_other():
    tokens = ["-1", "last_q", "exact_answer_last", "-2"]
    assert Highlight(tokens=["exact_answer_last", "-1"]).find_columns(tokens) == [(0, 2)]


def test_a_fold_for_each_group_is_never_drawn_anew():
    protocol = Probe(split="groups", repeats=3).resolve(hold_out=False)
    assert (protocol.split, protocol.repeats) == ("groups", 1)
    assert "; one fold for each group, which is tested by probes of all the others; " in (
        describe_method(protocol)
    )


def test_the_published_presets_differ_in_site_and_in_the_token_that_ends_an_answer():
    published, output = PRESETS["published"], PRESETS["published_output"]
    assert published.changed(site="mlp") == output
    assert published.site == "mlp_input"
    assert TOKENS.keys() == PRESETS.keys()
    assert [*TOKENS["published"], "-8"] != TOKENS["published_output"]
    assert len(TOKENS["published"]) == len(TOKENS["published_output"]) == 15
    # -8 to -1 of the published code, which counts that token as the last
    assert TOKENS["published"][-8:] == [*map(str, range(-7, 0)), "stop"]
    assert not {"stop", "answer_mean"} & {*TOKENS["strict"], *TOKENS["published_output"]}
