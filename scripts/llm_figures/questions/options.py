"""Options of questions, and of exact answers within generated answers."""

from typing import Annotated, Literal, Self

from pydantic import Field

from llm_figures.core.options import AnyText, Holds, Integer, Options, Says
from llm_figures.core.result_folders import at_home

# Keys of `Dataset` that name a column.
COLUMNS = ("question", "answer", "id", "group", "frame", "response", "label")

_QUOTE = """\
Q: What is the capital of Greenland?
A: The capital of Greenland is Nuuk.
The exact answer: Nuuk

Q: What is the currency of Macau?
A: In Macau people pay with the pataca, I think.
The exact answer: pataca

Q: What is the atomic number of dubnium?
A: Dubnium is a chemical element with atomic number 105.
The exact answer: 105

Q: {question}
A: {answer}
The exact answer:"""


class Dataset(Options):
    """The questions of the probe's figure: the built-in facts, or questions of your own."""

    name: Literal["facts"] = "facts"
    """The built-in questions, used unless you name your own."""

    source: Literal["auto", "facts", "path", "hub"] = "auto"
    """auto: path if given, hub if repo is given, else facts

    Where questions come from. auto is path if path is given, hub if repo is given, else facts."""

    path: AnyText | None = None
    """CSV, TSV, JSONL or Parquet

    A CSV, TSV, JSONL or Parquet file of your own questions."""

    repo: (
        Annotated[AnyText, Field(pattern=r"^[\w.-]+/[\w.-]+$"), Says("text of the form owner/name")]
        | None
    ) = None
    """A dataset of the model hub, owner/name."""

    revision: (
        Annotated[AnyText, Field(pattern=r"^[0-9a-f]{40}$"), Says("the 40 hex digits of a commit")]
        | None
    ) = None
    """Its pinned commit

    The pinned commit of repo."""

    file: AnyText | None = None
    """Its file, or data/train-*.parquet

    The file of questions in repo. A pattern such as data/train-*.parquet takes several."""

    question: AnyText = "question"
    """Name of the column of questions."""

    answer: AnyText | None = "answer"
    """Column of right answers: a string, or a list of aliases

    Name of the column of right answers; each is a string or a list of aliases. It may be null
    where label is given."""

    id: AnyText | None = None
    """Column of identifiers; null takes the row's number

    Name of the column of identifiers. null takes the row's number."""

    group: AnyText | None = None
    """Column of groups, such as topics

    Name of the column of groups, such as topics."""

    frame: AnyText | None = None
    """Column of frames such as "The capital of France is"; the exact answer follows

    Name of the column of answer frames, such as "The capital of France is". The exact answer is
    what follows the frame; see exact_answer."""

    response: AnyText | None = None
    """Column of the model's own answers; nothing is generated

    Name of the column of answers that the model has given already. Nothing is generated then; the
    text is tokenized once, as it stands. Where it does not begin with white space, and would if it
    were generated, a space is put before it."""

    label: AnyText | None = None
    """Column of labels of these responses

    Name of the column of labels, existing judgements of the responses: true or false, right or
    wrong, 1 or 0. They replace the comparison with the right answers, and need response."""

    hold_out: AnyText | None = None
    """Another file: probes train on all other questions and are tested on it

    Another file with the same columns, a path or a file of repo. Probes then train on all other
    questions and are tested on these."""

    limit: Annotated[Integer, Field(ge=40)] | None = None
    """Number of questions, sampled with seed; null takes all."""

    seed: Annotated[Integer, Field(ge=0)] = 0
    """Seed of that sample."""

    def resolved(self) -> Self:
        """The same dataset with `source` auto resolved and ~ in paths expanded."""
        source = self.source
        if source == "auto":
            source = "path" if self.path is not None else "facts" if self.repo is None else "hub"
        if source != "path":
            return self.changed(source=source)
        path, hold_out = (file and at_home(file) for file in (self.path, self.hold_out))
        return self.changed(source=source, path=path, hold_out=hold_out)

    def columns(self) -> dict[str, str]:
        """{key: column} of the keys that name a column, such as question and answer."""
        return {key: column for key in COLUMNS if (column := getattr(self, key)) is not None}


class ExactAnswer(Options):
    """How the exact answer is located within an answer, without using the gold answer."""

    method: Literal["auto", "frame", "sentence", "line", "regex", "model"] = "auto"
    """frame, sentence, line, regex, model; auto: frame if there is one, else sentence

    frame takes the text after the question's frame, up to the end of the sentence. sentence takes
    the answer's first sentence, line its first line, and regex the match of pattern. model asks the
    model to quote its exact answer. auto is frame if a question has one, else sentence."""

    pattern: AnyText | None = None
    """For regex

    For regex: its first group, or else its whole match, is the exact answer."""

    prompt: Annotated[AnyText, Holds(("{question}", "{answer}"))] = _QUOTE
    """For model

    For model: the request for a quote, in which {question} and {answer} stand for the question and
    the model's answer. It is plain text, whatever prompt.style is. The quote ends at a new line and
    must occur in the answer."""

    max_new_tokens: Annotated[Integer, Field(ge=1, le=512)] = 16
    """For model

    For model: the longest quote, in tokens."""
