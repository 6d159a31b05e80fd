"""Options of questions, and of exact answers within generated answers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from llm_figures.core.options import (
    AnyText,
    Holds,
    Integer,
    Items,
    NonEmpty,
    Options,
    Says,
    Seed,
    by_kind,
)
from llm_figures.core.result_folders import at_home
from llm_figures.core.text_checks import FileName
from llm_figures.questions.judging.rules import RULES

# Keys of `Dataset` that name a column.
COLUMNS = ("question", "answer", "wrong", "id", "group", "frame", "response", "label")

Rule = Literal[RULES]

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


_JUDGE = """\
Question: What is the capital of Greenland?
Right answer: Nuuk
Answer to be judged: It is Nuuk, I think.
Is that answer right or wrong? right

Question: What is the atomic number of dubnium?
Right answer: 105
Answer to be judged: 150
Is that answer right or wrong? wrong

Question: {question}
Right answer: {gold}
Answer to be judged: {exact_answer}
Is that answer right or wrong?"""


class Dataset(Options):
    """The questions of the probe's figure: the built-in facts, or questions of your own."""

    name: Literal["facts", "airports", "elements", "arithmetic"] = "facts"
    """facts, airports, elements, arithmetic: built-in questions

    The built-in questions, used unless you name your own: facts, airports, elements, arithmetic."""

    source: Literal["auto", "facts", "path", "hub"] = "auto"
    """auto: path if given, hub if repo is given, else facts, the built-in questions

    Where questions come from. auto is path if path is given, hub if repo is given, else facts,
    which stands for all built-in questions."""

    path: FileName | None = None
    """CSV, TSV, JSON, JSONL or Parquet

    A CSV, TSV, JSON, JSONL (.jsonl or .ndjson) or Parquet file of your own questions; all but
    Parquet may be compressed (.csv.gz). JSON is an array of objects."""

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

    file: FileName | None = None
    """Its file, or data/train-*.parquet

    The file of questions in repo. A pattern such as data/train-*.parquet takes several."""

    question: AnyText = "question"
    """Name of the column of questions."""

    answer: AnyText | None = "answer"
    """Column of right answers: a string, or a list of aliases

    Name of the column of right answers; each is a string or a list of aliases. answer.aliases is
    the field aliases of objects in the column answer. It may be null where label is given."""

    answer_format: Literal["auto", "text", "list"] = "auto"
    """auto: lists in JSON or Python are aliases; text: none is; list: every cell is one

    How text in the column of right answers is read. auto takes a list of strings, in JSON or as
    Python prints it, as aliases, other text as one answer, and refuses what may be either. text
    takes every text as it is, and list requires each to be a list. Lists of JSONL and Parquet files
    are always aliases."""

    wrong: AnyText | None = None
    """Column of wrong answers, where a question has few answers to choose from

    Name of the column of wrong answers, of questions that name what to choose from ("Which is
    heavier, iron or lead?"): a string or a list each, read as the right answers are. They are not
    shown to the model. An answer that names none of the right and wrong ones is then known; see
    judge.off_options. With choices, the other choices are the wrong answers."""

    separator: NonEmpty | None = None
    """Text between aliases in one cell, such as ";"

    Text between the aliases in one cell, such as ";", without the spaces around it; within brackets
    it separates nothing. It also separates choices."""

    answer_pattern: NonEmpty | None = None
    """Regular expression of the answer in a longer text, or boxed

    Regular expression of the right answer in a longer text, such as '####\\s*(.+)': its last match,
    or the first group of that, is the answer. boxed takes what the last \\boxed{} holds. Rows
    without a match are left out."""

    choices: Annotated[
        AnyText | Annotated[tuple[AnyText, ...], Items(2, 26, distinct=True)] | None,
        by_kind,
        Says("text, a list of 2 to 26 texts, or null"),
    ] = None
    """Column of lists of choices, or a list of columns of one choice each

    Name of the column of lists of choices, such as choices or choices.text, or a list of columns
    that hold one choice each. The choices are shown below the question as lines "A. ...", and the
    right answers are the letter and the text of the right choice."""

    choices_gold: Literal["auto", "index", "letter", "text"] = "auto"
    """What answer holds of the right choice

    What the column answer holds of the right choice: its index, its letter (or its label, where the
    choices have labels) or its text. auto finds out, and refuses what may be either."""

    choices_from: Annotated[Integer, Field(ge=0, le=1)] = 0
    """The index of the first choice, 0 or 1."""

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

    hold_out: FileName | None = None
    """Another file: probes train on all other questions and are tested on it

    Another file with the same columns, a path or a file of repo. Probes then train on all other
    questions and are tested on these."""

    limit: Annotated[Integer, Field(ge=40)] | None = None
    """Number of questions, sampled with seed; null takes all."""

    seed: Seed = 0
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

    def choice_columns(self) -> tuple[str, ...]:
        """The column of lists of choices, or those of one choice each; () without choices."""
        return (self.choices,) if isinstance(self.choices, str) else tuple(self.choices or ())


SetName = Annotated[
    AnyText,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$"),
    Says("a name of at most 40 letters, digits, - and _ that begins with a letter"),
]
Datasets = dict[SetName, Dataset | None]
# The built-in sets beside the facts.
FURTHER_SETS = {name: Dataset(name=name) for name in ("airports", "elements", "arithmetic")}


def find_part(name: str) -> str:
    """The part of a path below results/{model} that a further set of questions adds; "" for ""."""
    return f"/datasets/{name}" if name else ""


class ExactAnswer(Options):
    """How the exact answer is located within an answer, without using the gold answer."""

    method: Literal[
        "auto", "frame", "sentence", "line", "boxed", "final_answer", "regex", "model"
    ] = "auto"
    """frame, sentence, line, boxed, final_answer, regex, model; auto: frame, else sentence

    frame takes the text after the question's frame, up to the end of the sentence. sentence takes
    the answer's first sentence, line its first line, boxed the content of its last \\boxed{...},
    final_answer what follows its last "answer is", "Answer:" or "####", and regex the match of
    pattern. model asks the model to quote its exact answer. auto is frame if a question has one,
    else sentence."""

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


class Judge(Options):
    """How an exact answer is judged once it is located. A dataset's own labels come first."""

    method: Literal["contains", "exact", "numeric", "choice", "model"] = "contains"
    """contains, exact, numeric, choice, model

    contains: a right answer occurs in the exact answer as whole words and is stated there, not
    denied. Right answers that are the letter of a choice, yes or no, or an expression are judged as
    such. exact: the exact answer as a whole is a right answer. numeric: its value or expression is
    that of a right answer. choice: the letter that it gives, or else the text of a choice. model: a
    language model says so."""

    rules: Annotated[tuple[Rule, ...], Items(distinct=True)] | None = None
    """null: all of docs/questions.md

    Names of the rules that make two answers equal, or that rule an answer out; null takes all. They
    are explained in docs/questions.md."""

    abstentions: Literal["leave_out", "wrong"] = "leave_out"
    """leave_out, wrong

    What becomes of answers such as "I don't know": they are left out of the probe and counted, or
    count as wrong."""

    off_options: Literal["leave_out", "wrong"] = "leave_out"
    """leave_out, wrong

    What becomes of answers that name none of a question's options, where these are known
    (dataset.choices, dataset.wrong, the built-in elements): they are left out of the probe and
    counted, or count as wrong. The column off_option marks them either way. The method model
    decides by itself."""

    cut: Literal["keep", "leave_out"] = "keep"
    """keep, leave_out

    What becomes of answers that max_new_tokens cut off. They are marked and counted either way."""

    model: AnyText | None = None
    """For model: a key of models.yaml; null: the model itself

    For model: the model that judges, a key of config/models.yaml or of model_sources; null has the
    model judge its own answers."""

    prompt: Annotated[
        AnyText,
        Holds(("{question}", "{gold}")),
        Holds(("{answer}", "{exact_answer}"), any_of=True),
    ] = _JUDGE
    """For model

    For model: the request for a judgement. {question}, {gold}, and {answer} or {exact_answer},
    stand for the question, the right answers, and the answer to be judged. It is plain text,
    whatever prompt.style is."""

    if_right: NonEmpty = "right"
    """For model: the word that begins a reply for right."""

    if_wrong: NonEmpty = "wrong"
    """For model: the word for wrong. An answer with any other reply is left out and counted."""

    def relevant(self) -> dict[str, Any]:
        """The options that judgements depend on, as a plain dict."""
        asking = {"model", "prompt", "if_right", "if_wrong"}
        left_out = {"rules"} if self.method == "model" else asking
        return {key: value for key, value in self.plain().items() if key not in left_out}

    def applied_rules(self) -> tuple[str, ...]:
        """The rules, with null resolved."""
        return RULES if self.rules is None else self.rules
