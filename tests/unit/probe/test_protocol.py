from llm_figures.probe.protocol import PRESETS, protocol


def test_what_the_config_sets_takes_the_place_of_the_preset():
    probe = {"preset": "published", "seed": 3, "site": None, "C": 0.5, "split": "folds"}
    chosen = protocol(probe, hold_out=False)
    assert chosen == PRESETS["published"] | {"C": 0.5, "split": "folds", "seed": 3}
