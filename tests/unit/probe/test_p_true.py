"""Ways of asking whether an answer is true, each a column of one file."""

import json

import numpy as np
import pandas as pd
import pytest

import ask_p_true
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.models.options import Runtime
from llm_figures.models.sources import prepare_model
from llm_figures.probe.p_true_options import PTrue

COUNT = 9
WITH_EXAMPLE = {"prompt": "One is one. True\n\n{question} {exact_answer}?", "if_true": " True"}
ALONE = {"prompt": "{question} {answer}?", "if_true": " yes", "if_false": " no"}
# Only the shortest answers fit the context of the tiny model.
LONG = {"prompt": "a b " * 8 + "{question} {answer}"}


@pytest.fixture
def asked(tmp_path):
    entry = {"source": "path", "trust_remote_code": False, "safetensors_only": True}
    entry["path"] = str(tiny.save(tmp_path / "model", max_position_embeddings=60))
    model_info = tmp_path / "model.json"
    model_info.write_text(json.dumps(prepare_model("tiny", entry)))
    answers = pd.DataFrame(
        {
            "question_id": range(COUNT),
            "question": [f"What is {n}?" for n in range(COUNT)],
            "answer": [f" the lamp {'and ' * n}" for n in range(COUNT)],
            "exact_answer": [f"lamp {'and ' * n}" for n in range(COUNT)],
            "valid": [n != 3 for n in range(COUNT)],
        }
    )
    write_frame(answers, str(tmp_path / "answers.parquet"))

    def run(shards=1, batch_size=4, **ask):
        files = []
        for shard in range(shards):
            files.append(str(tmp_path / f"{shard}-of-{shards}.parquet"))
            ask_p_true.main(
                str(model_info),
                str(tmp_path / "answers.parquet"),
                files[-1],
                (shard, shards),
                read_options(PTrue, WITH_EXAMPLE | ask, "config: probe.p_true"),
                batch_size,
                Runtime(),
                1,
            )
        return pd.concat(map(read_frame, files)).set_index("question_id").sort_index()

    return run


def test_every_way_of_asking_is_a_column(asked):
    alone = asked()
    assert list(alone.columns) == ["p_true"]
    assert list(alone.index) == [n for n in range(COUNT) if n != 3]
    both = asked(variants={"short": ALONE, "same": WITH_EXAMPLE})
    assert list(both.columns) == ["p_true", "p_true_short", "p_true_same"]
    # The first is what it is without the others, and equal ways of asking have equal scores.
    for column in ("p_true", "p_true_same"):
        pd.testing.assert_series_equal(both[column], alone["p_true"], check_names=False)
    assert (both["p_true_short"] - both["p_true"]).abs().min() > 1e-6
    assert np.isfinite(both).all(axis=None)
    sharded = asked(shards=3, batch_size=2, variants={"short": ALONE, "same": WITH_EXAMPLE})
    pd.testing.assert_frame_equal(sharded, both)


def test_an_answer_too_long_for_one_way_of_asking_has_the_others(asked):
    found = asked(variants={"long": LONG})
    missing = found["p_true_long"].isna()
    assert 0 < missing.sum() < len(found)
    assert missing.is_monotonic_increasing  # the longer ones
    assert found["p_true"].notna().all()


def test_no_answer_to_be_asked_about_gives_no_row(asked):
    assert len(asked(shards=20)) == COUNT - 1  # some shards have none
    assert asked(prompt="a b " * 60 + "{question} {answer}").empty


def test_words_that_do_not_differ_are_named_with_their_variant_before_any_pass(asked, monkeypatch):
    monkeypatch.setattr(ask_p_true, "compute_p_true", None)
    with pytest.raises(
        UserError, match=r"^config: probe.p_true.variants.yes: ' yes' and ' yes, it is' do not"
    ):
        asked(variants={"short": ALONE, "yes": ALONE | {"if_false": " yes, it is"}})
