import pandas as pd

from llm_figures.core.parquet_tensors import write_frame
from llm_figures.inference.generation import NO_STOP
from llm_figures.probe.shard_answers import locate_tokens, read_shard_answers


def plant_answers(count):
    """Answers of two tokens, the last of which is exact; every other one was cut."""
    return pd.DataFrame(
        {
            "question_id": range(count),
            "prompt_ids": [[7, 8, 20 + n] for n in range(count)],
            "answer_ids": [[30, 31]] * count,
            "stop_id": [99 if n % 2 == 0 else NO_STOP for n in range(count)],
            "token_starts": [[0, 3]] * count,
            "token_ends": [[3, 6]] * count,
            "span_start": 3,
            "span_end": 6,
            "valid": True,
            "answer": "is one",
            "correct": [n < count / 2 for n in range(count)],
            "problem": "",
            "hold_out": False,
        }
    )


def test_positions_are_those_in_the_prompt_and_the_answer_with_what_ended_it(tmp_path):
    write_frame(plant_answers(40), tmp_path / "answers.parquet")
    shard = read_shard_answers(str(tmp_path / "answers.parquet"), (0, 1))
    assert len(shard.answers) == 40
    for number, (prompt, answer, positions) in enumerate(
        zip(shard.prompts, shard.answers, shard.positions, strict=True)
    ):
        ids = [*prompt, *answer]
        stops = number % 2 == 0
        assert ids == [7, 8, 20 + number, 30, 31, *([99] if stops else [])]
        assert ids[positions["last_q"]] == 20 + number
        assert ids[positions["-1"]] == ids[positions["exact_answer_last"]] == 31
        assert [ids[at] for at in positions["answer_mean"]] == [30, 31]
        after = [ids[positions[name]] for name in ("stop", "exact_answer_after_last")
                 if name in positions]  # fmt: skip
        assert after == ([99, 99] if stops else [])


def test_answers_without_the_token_that_is_needed_are_left_out(tmp_path):
    write_frame(plant_answers(40), tmp_path / "answers.parquet")
    shard = read_shard_answers(str(tmp_path / "answers.parquet"), (1, 3), "stop")
    assert shard.question_ids == [n for n in range(40) if n % 3 == 1 and n % 2 == 0]
    assert shard.positions == [{"stop": 5}] * len(shard.positions)


def test_positions_do_not_depend_on_the_order_of_rows():
    answers = plant_answers(6)
    assert locate_tokens(answers[::-1]) == locate_tokens(answers)[::-1]
