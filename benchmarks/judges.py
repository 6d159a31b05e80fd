"""Measure the judges on answers labelled by hand (tests/judged_answers.py), for docs/questions.md.

    .venv/bin/python benchmarks/judges.py
    .venv/bin/python benchmarks/judges.py --model results/smollm2-135m/model.json

Prints precision and recall of "right" by kind of answer, as a Markdown table. With --model, that
model judges, too, as `judge.method: model` would have it.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from judged_answers import KINDS, judge_all, measure, read_judged_answers  # noqa: E402
from llm_figures.core.markdown import table_row  # noqa: E402

# Kinds that a judge is made for; the others are left out of its row.
MADE_FOR = {"numeric": ("numbers", "mathematics"), "choice": ("choice",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model.json of a model that judges")
    options = parser.parse_args()
    rows = read_judged_answers()
    print(table_row(["judge", *(kind.replace("_", "/") for kind in KINDS), "all"]))
    print("|---" * (len(KINDS) + 2) + "|")
    for method in ("contains", "exact", "numeric", "choice"):
        of_method = rows[rows["kind"].isin(MADE_FOR.get(method, KINDS))]
        print_quality(method, of_method, judge_all(of_method, method))
    if options.model:
        print_quality("model", rows, ask(options.model, rows))


def print_quality(method: str, rows: pd.DataFrame, said: Iterable[str]) -> None:
    said = pd.Series(list(said), rows.index)
    cells = []
    for kinds in (*([kind] for kind in KINDS), list(KINDS)):
        part = rows[rows["kind"].isin(kinds)]
        quality = measure(part["verdict"], said[part.index])
        whole = len(kinds) == 1 or method not in MADE_FOR
        cells.append(
            f"{quality.precision:.3f}, {quality.recall:.3f}" if len(part) and whole else ""
        )
    print(table_row([f"`{method}`", *cells]))


def ask(model_info: str, rows: pd.DataFrame) -> list[str]:
    """The verdicts of a model."""
    from llm_figures.inference.generation import generate
    from llm_figures.inference.prompts import fill, tokenize_texts
    from llm_figures.models.loading import load_model
    from llm_figures.models.options import Runtime
    from llm_figures.questions.answers import read_reply
    from llm_figures.questions.judging.abstentions import abstains
    from llm_figures.questions.options import Judge

    judging = Judge(method="model")
    model, tokenizer = load_model(model_info, Runtime(), 2)
    texts = [
        fill(
            judging.prompt,
            question=row.question,
            gold="; ".join(row.gold),
            answer=row.answer,
            exact_answer=row.answer,
        )
        for row in rows.itertuples()
    ]
    replies = {}
    for batch in generate(
        model, tokenizer, tokenize_texts(tokenizer, texts), stop=["\n"], max_new_tokens=4,
        batch_size=64,
    ):  # fmt: skip
        replies |= {reply.index: reply.text for reply in batch}
    verdicts = []
    for index, answer in enumerate(rows["answer"]):
        right = read_reply(replies[index], judging).right
        verdicts.append("abstained" if abstains(answer) else "right" if right else "wrong")
    return verdicts


if __name__ == "__main__":
    main()
