"""What the methods take from a finished run: its config, model, questions and answers."""

import json
from pathlib import Path

import pandas as pd

from llm_figures.models.loading import load_model
from llm_figures.models.options import Runtime

SEED = 0


def config(task: dict) -> dict:
    """The config that the run was made by."""
    return json.loads(results(task, "manifest.json").read_text())["config"]


def results(task: dict, *parts: str) -> Path:
    return Path(task["results"], *parts)


def load(task: dict):
    """The work's model and tokenizer, where it computes."""
    runtime = Runtime(device=task["device"], dtype=task["dtype"])
    return load_model(task["model_info"], runtime, task["cores"])


def map_texts(task: dict, tokenizer) -> list[list[int]]:
    """Token ids of the first texts of the module map."""
    settings = config(task)
    texts = settings["figures"]["module_map"]["texts"] or settings["inputs"]
    return [tokenizer(text)["input_ids"] for text in texts[: task["texts"]]]


def sample(frame: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """`count` rows, or all if there are fewer or it is None, in ascending order of question."""
    count = len(frame) if count is None else min(count, len(frame))
    return frame.sample(count, random_state=SEED).sort_values("question_id")


def valid_answers(task: dict, count: int | None) -> pd.DataFrame:
    """`count` answers with a valid exact answer."""
    answers = pd.read_parquet(results(task, "forward", "answers.parquet"))
    return sample(answers[answers["valid"]], count)


def repeated(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows: these again and again, under other question ids."""
    return rows.iloc[[index % len(rows) for index in range(count)]].assign(question_id=range(count))
