"""Checks of the options of questions, exact answers and judges against each other and their files.

Made while the Snakefile is read, before any job.
"""

import re
from collections.abc import Iterator, Mapping

from llm_figures.core.errors import UserError
from llm_figures.questions.gold_answers import compile_pattern
from llm_figures.questions.options import Dataset, ExactAnswer, Judge
from llm_figures.questions.question_files import column_problems, find_question_files
from llm_figures.questions.spans import check_pattern


def further_problems(sets: Mapping[str, Dataset | None]) -> Iterator[str]:
    """The problems of further sets of questions, each with the set's own key."""
    for name, options in sets.items():
        if options is None:
            continue
        if options.hold_out is not None:
            yield (
                f"config: datasets.{name}.hold_out: {options.hold_out!r}; only dataset has "
                "held-out questions; make them a set of their own"
            )
        try:
            for problem in dataset_problems(options):
                yield name_set(problem, name)
        except UserError as error:
            raise UserError(name_set(str(error), name)) from None


def name_set(message: str, name: str) -> str:
    """A message about the options `dataset`, as one about a further set of that name."""
    return re.sub(r"(config: |\b)dataset\b(?=[.:])", rf"\1datasets.{name}", message)


def judge_problems(options: Judge) -> Iterator[str]:
    """One line for each option of the judge that does not go with another."""
    if options.if_right.strip().casefold() == options.if_wrong.strip().casefold():
        yield (
            f"config: judge.if_wrong: {options.if_wrong!r} is judge.if_right, too; choose two words"
        )


def exact_answer_problems(options: ExactAnswer) -> Iterator[str]:
    """One line if the method regex has no pattern that is a regular expression."""
    if options.method == "regex":
        try:
            check_pattern(options.pattern)
        except UserError as error:
            yield str(error)


def dataset_problems(options: Dataset) -> Iterator[str]:
    """One line for each option of the dataset that does not go with another, or with its file."""
    dataset = options.plain()
    source = options.source
    if options.answer is None and options.label is None:
        yield (
            "config: dataset.answer: null without dataset.label; name the column of right answers "
            "or that of labels"
        )
    if options.answer_pattern is not None:
        try:
            compile_pattern(options.answer_pattern)
        except UserError as error:
            yield str(error)
    if options.answer_format == "list":
        for key in ("separator", "answer_pattern"):
            if dataset[key] is not None:
                yield (
                    f"config: dataset.{key}: {dataset[key]!r}; dataset.answer_format: list takes "
                    "whole cells as lists; set one of them"
                )
    if options.choices is None:
        for key in ("choices_gold", "choices_from"):
            if dataset[key] != Dataset.model_fields[key].default:
                yield (
                    f"config: dataset.{key}: {dataset[key]!r} without dataset.choices; name the "
                    "column of choices"
                )
    if options.wrong is not None and options.choices is not None:
        yield (
            f"config: dataset.wrong: {options.wrong!r} beside dataset.choices, whose other choices "
            "are the wrong answers; set one of them"
        )
    if source == "facts":
        for key in (
            *("wrong", "id", "group", "frame", "response", "label", "hold_out", "revision", "file"),
            *("separator", "answer_pattern", "choices"),
        ):
            if dataset[key] is not None:
                yield (
                    f"config: dataset.{key}: {dataset[key]!r}; only for questions of your own "
                    "(dataset.path, or dataset.repo)"
                )
        return
    if options.label is not None and options.response is None:
        yield (
            f"config: dataset.label: {options.label!r} judges answers that the file does not give; "
            "newly generated ones may be others; name their column with dataset.response"
        )
    needed = ("path",) if source == "path" else ("repo", "revision", "file")
    missing = [key for key in needed if dataset[key] is None]
    for key in missing:
        yield f"config: dataset.{key}: missing; source: {source} needs {', '.join(needed)}"
    if source == "path" and not missing:
        held_out = () if options.hold_out is None else find_question_files(options, held_out=True)
        for file in (*find_question_files(options), *held_out):
            yield from column_problems(options, file)


def resampling_problem(config: Mapping) -> str:
    """Why answers to a run's questions cannot be sampled and judged, in one line; "" if they can.

    config: checked and complete.
    """
    if config["dataset"]["response"] is not None:
        return (
            "config: dataset.response: error_kinds and answer_choice sample further answers of the "
            "model that gave these; leave it out, so that the answers are generated here"
        )
    if config["prompt"]["temperature"] > 0:
        return (
            f"config: prompt.temperature: {config['prompt']['temperature']}: error_kinds and "
            "answer_choice compare samples with the likeliest answer; set it to 0 (samples have "
            "resamples.temperature)"
        )
    for key in ("exact_answer", "judge"):
        if config[key]["method"] == "model":
            return (
                f"config: {key}.method: model: would ask the model about every sample; "
                "error_kinds and answer_choice take any other method"
            )
    return ""
