"""What the methods take from a finished run: its config, model, questions and answers.

A work's task may name another set of questions (`dataset`) in place of the run's own: a built-in
one, or `SUMS`.
"""

import json
import random
from pathlib import Path

import pandas as pd

from llm_figures.core.parquet_tensors import read_frame
from llm_figures.inference.options import Prompt
from llm_figures.inference.prompts import tokenize_questions
from llm_figures.inference.token_spans import locate_tokens
from llm_figures.models.loading import load_model
from llm_figures.models.options import Runtime
from llm_figures.questions.arithmetic import spell_number
from llm_figures.questions.built_in import build_set

SEED = 0
# Questions of almost as many lengths as there are of them, as word problems and texts with a
# question have. The built-in sets have a template for each relation, and a dozen lengths.
SUMS = "long sums"
COUNT, MOST_TERMS, LARGEST = 300, 40, 99


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


def asked_questions(task: dict) -> pd.DataFrame:
    """The task's number of questions: question_id, question, and aliases (right answers)."""
    if "dataset" in task:
        name = task["dataset"]
        every = _build_sums() if name == SUMS else build_set(name)
        every = every.rename_axis("question_id").reset_index()
    else:
        every = read_frame(results(task, "forward", "questions.parquet"))
    return sample(every, task["questions"])


def _build_sums() -> pd.DataFrame:
    """Sums of 2 to `MOST_TERMS` numbers in words: question, aliases."""
    drawn = random.Random(SEED)
    rows = []
    for _ in range(COUNT):
        terms = [drawn.randint(1, LARGEST) for _ in range(drawn.randint(2, MOST_TERMS))]
        *first, last = map(spell_number, terms)
        rows.append((f"What is the sum of {', '.join(first)} and {last}?", [str(sum(terms))]))
    return pd.DataFrame(rows, columns=["question", "aliases"])


def asked_as(task: dict) -> Prompt:
    """How the run asks its questions."""
    return Prompt(**config(task)["prompt"])


def valid_answers(task: dict, count: int | None) -> pd.DataFrame:
    """`count` answers with a valid exact answer."""
    answers = pd.read_parquet(results(task, "forward", "answers.parquet"))
    return sample(answers[answers["valid"]], count)


def given_answers(task: dict, tokenizer) -> pd.DataFrame:
    """The task's number of answers: valid ones of the run, or the right ones to another set.

    They have the columns of forward/answers.parquet that hidden states and P(true) take.
    """
    if "dataset" not in task:
        return valid_answers(task, task["questions"])
    rows = asked_questions(task)
    rows["prompt_ids"] = tokenize_questions(tokenizer, asked_as(task), rows["question"].tolist())
    rows["exact_answer"] = [aliases[0] for aliases in rows["aliases"]]
    rows["answer_ids"] = [
        tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
        for answer in rows["exact_answer"]
    ]
    spans = [locate_tokens(tokenizer, ids) for ids in rows["answer_ids"]]
    rows["token_starts"] = [span.starts for span in spans]
    rows["token_ends"] = [span.ends for span in spans]
    ends = [len(span.text) for span in spans]
    return rows.assign(span_start=0, span_end=ends, stop_id=-1)


def repeated(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows: these again and again, under other question ids."""
    return rows.iloc[[index % len(rows) for index in range(count)]].assign(question_id=range(count))
