import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_figures.core.errors import UserError
from llm_figures.questions.multiple_choice import BadChoicesError, ChoiceSet, read_choices
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions

AB_PQ = ["a", "b"], ["P", "Q"]
FOUR = ["red", "green", "blue", "grey"]


def write(path, golds, choices, **columns):
    rows = [
        {"question": f"What is {n}?", "answer": gold, "choices": options}
        for n, (gold, options) in enumerate(zip(golds, choices, strict=True))
    ]
    rows = [row | {name: cells[n] for name, cells in columns.items()} for n, row in enumerate(rows)]
    match path.suffix:
        case ".csv":
            pd.DataFrame(rows).to_csv(path, index=False)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".gz":
            path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        case _:
            path.write_text("\n".join(map(json.dumps, rows)))
    return path


def load(path, preamble="", **options):
    return load_questions(Dataset(path=str(path), **{"choices": "choices", **options}), preamble)


def right(path, golds, cells, columns=(), **options):
    """The letters of the right choices, whose texts must belong to them; None for rows left out."""
    questions, left_out = load(write(path, golds, cells, **dict(columns)), **options)
    for row in questions.itertuples():
        letter, text = row.aliases
        assert row.choices["ABCDEF".index(letter)] == text
    found = dict(zip(questions["id"], (row[0] for row in questions["aliases"]), strict=True))
    found.update(dict.fromkeys(left_out["id"]))
    return [found[str(number)] for number in range(1, len(golds) + 1)]


@pytest.mark.parametrize(
    ("value", "labels", "separator", "texts", "names"),
    [
        (["a", "b"], None, None, ["a", "b"], []),
        (["a", 7.0, True], None, None, ["a", "7", "true"], []),
        ('["a", "b"]', None, None, ["a", "b"], []),
        ("['a', \"b\"]", ["x", "y"], None, ["a", "b"], ["x", "y"]),
        ("a; b (c; d)", None, ";", ["a", "b (c; d)"], []),
        ({"text": ["a", "b"], "label": ["1", "2"]}, None, None, ["a", "b"], ["1", "2"]),
        ("{'text': ['a', 'b'], 'label': ['1', '2']}", None, None, ["a", "b"], ["1", "2"]),
        ([{"label": "P", "text": "a"}, {"label": "Q", "text": "b"}], None, None, *AB_PQ),
        (["a", "b", None, " "], None, None, ["a", "b"], []),
        (["A. a", "B. b"], None, None, ["a", "b"], []),
        (["(A) a", "(B) b"], None, None, ["a", "b"], []),
        (["A. a", "b"], None, None, ["A. a", "b"], []),
        (["a", "b"], ["x"], None, ["a", "b"], []),
        (["a", "b"], ["x", "x"], None, ["a", "b"], []),
    ],
)  # fmt: skip
def test_choices_are_read_from_cells_of_many_forms(value, labels, separator, texts, names):
    assert read_choices(value, labels, separator) == ChoiceSet(tuple(texts), tuple(names))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no choices"),
        ("", "no choices"),
        ("red or blue", "choices are no list"),
        ({"a": "b"}, "choices are no list"),
        (["a"], "fewer than two choices, or more than 26"),
        (["a"] * 27, "fewer than two choices, or more than 26"),
        (["a", None, "b"], "a choice is empty"),
        (["a", ["b"]], "a choice is a list"),
    ],
)
def test_rows_without_choices_have_a_reason(tmp_path, value, reason):
    with pytest.raises(BadChoicesError) as caught:
        read_choices(value)
    assert str(caught.value) == reason
    path = write(tmp_path / "a.jsonl", [0, 1], [["x", "y"], value])
    questions, left_out = load(path)
    assert len(questions) == 1
    assert left_out["reason"].tolist() == [reason]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize(
    ("golds", "options"),
    [
        ([0, 2, 3], {}),
        ([1, 3, 4], {"choices_from": 1}),
        (["A", "C", "D"], {}),
        (["a", "(C)", "D. grey"], {}),
        (["red", "Blue", "grey"], {}),
        (["red", "blue", "grey"], {"choices_gold": "text"}),
    ],
)
def test_a_gold_is_an_index_a_letter_or_a_text(tmp_path, kind, golds, options):
    choices = [str(FOUR) if kind == "csv" else FOUR] * 3
    assert right(tmp_path / f"a.{kind}", golds, choices, **options) == ["A", "C", "D"]


def test_the_model_sees_the_choices_below_the_question(tmp_path):
    path = write(tmp_path / "a.jsonl", [0, 1, 1], [FOUR[:2], FOUR[2:], FOUR[2:]])
    path.write_text(path.read_text().replace("What is 1", "What is 0").replace("is 2", "is  0"))
    questions, _ = load(path)
    assert questions["question"].tolist() == [
        "What is 0?\nA. red\nB. green",
        "What is 0?\nA. blue\nB. grey",
        "What is  0?\nA. blue\nB. grey",
    ]
    assert questions["choices"].tolist() == [FOUR[:2], FOUR[2:], FOUR[2:]]
    assert questions["aliases"].tolist() == [["A", "red"], ["B", "grey"], ["B", "grey"]]
    # One stem with other choices is another question.
    assert questions["split_group"].tolist() == [0, 1, 1]
    rest, left_out = load(path, f"Q: {questions['question'][0]}\nA: A")
    assert len(rest) == 2
    assert left_out["reason"].tolist() == ["the prompt's preamble answers it"]


def test_labels_name_choices_where_there_are_any(tmp_path):
    sets = [{"text": FOUR[:3], "label": list("ABC")}, {"text": FOUR[:3], "label": list("123")}]
    for name in ("choices.text", "choices"):
        assert right(tmp_path / "a.jsonl", ["B", "1"], sets, choices=name) == ["B", "A"]
        assert right(tmp_path / "a.parquet", ["B", "1"], sets, choices=name) == ["B", "A"]
        assert right(tmp_path / "a.csv", ["B", "1"], list(map(str, sets)), choices=name) == [
            "B",
            "A",
        ]
    flat = {"o.text": [FOUR[:3]] * 2, "o.label": [list("ABC"), list("123")]}
    for kind in ("jsonl", "parquet"):
        golds = right(tmp_path / f"b.{kind}", ["B", "1"], [None] * 2, flat, choices="o.text")
        assert golds == ["B", "A"]


def test_choices_may_have_a_column_each(tmp_path):
    columns = {"A": ["red", "7"], "B": ["blue", "8"], "C": ["grey", None]}
    for kind in ("csv", "jsonl", "parquet"):
        golds = right(
            tmp_path / f"a.{kind}", ["C", "A"], [""] * 2, columns, choices=("A", "B", "C")
        )
        assert golds == ["C", "A"]


def test_the_place_of_the_one_in_a_list_is_the_right_choice(tmp_path):
    golds = [
        [0, 0, 1, 0],
        [False, True, False, False],
        "[1, 0, 0, 0]",
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [2],
    ]
    choices = [FOUR] * 6
    assert right(tmp_path / "a.jsonl", golds, choices) == ["C", "B", "A", None, None, "C"]


def test_whole_numbers_of_pandas_are_indices(tmp_path):
    choices = [str(FOUR)] * 3
    assert right(tmp_path / "a.csv", [1.0, None, 0.0], choices) == ["B", None, "A"]


def test_a_gold_in_a_longer_text_is_found_first(tmp_path):
    golds = ["Blue is no option. The answer is (B)", "… so the answer is (D)", "?"]
    pattern = r"answer is \((\w)\)"
    path = tmp_path / "a.jsonl"
    assert right(path, golds, [FOUR] * 3, answer_pattern=pattern) == ["B", "D", None]
    assert load(path, answer_pattern=pattern)[1]["reason"].tolist() == [
        "answer_pattern does not match the answer"
    ]


def test_golds_that_name_no_choice_are_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", [0, 5, -1, "x", None, 3], [FOUR] * 6)
    questions, left_out = load(path)
    assert questions["id"].tolist() == ["1", "6"]
    outside = "answer is no index of a choice"
    assert left_out["reason"].tolist() == [outside, outside, outside, "no answer"]
    assert left_out["question"][0].splitlines()[1] == "A. red"
    assert right(path, ["A", "C", "E", "2"], [FOUR] * 4) == ["A", "C", None, None]
    assert load(path)[1]["reason"].tolist() == ["answer is not the letter of a choice"] * 2
    assert right(path, ["red", "x"], [["red", "blue"]] * 2) == ["A", None]
    assert load(path)[1]["reason"].tolist() == ["answer is not the text of a choice"]
    # Two choices alike.
    assert right(path, ["red", "blue"], [["red", "red"], FOUR]) == [None, "C"]


@pytest.mark.parametrize(
    ("golds", "choices", "options", "message"),
    [
        (
            [1, 2, 4],
            [FOUR] * 3,
            {},
            "choices_from: 0: {}: row 3: column 'answer' holds 4, one more than the last index of "
            "4 choices counted from 0, and no row holds 0; set dataset.choices_from: 1",
        ),
        (
            ["2", "2"],
            [FOUR[:2]] * 2,
            {"choices_gold": "index"},
            "choices_from: 0: {}: row 1: column 'answer' holds 2, one more than the last index of "
            "2 choices counted from 0, and no row holds 0; set dataset.choices_from: 1",
        ),
        (
            [2, 2],
            [FOUR[:2]] * 2,
            {},
            "choices_from: 0: {}: row 1: column 'answer' holds 2, one more than the last index of "
            "2 choices counted from 0, and no row holds 0; set dataset.choices_from: 1",
        ),
        (
            [3, 0],
            [FOUR] * 2,
            {"choices_from": 1},
            "choices_from: 1: {}: row 2: column 'answer' holds 0, which choices counted from 1 do "
            "not have; set dataset.choices_from: 0",
        ),
        (
            [1, 2],
            [["1", "2", "3"]] * 2,
            {},
            "answer: {}: row 1: column 'answer' holds '1', the index of the choice '2', or the "
            "text of '1'; set dataset.choices_gold to index or to text",
        ),
        (
            ["A", "B"],
            [["B", "A"]] * 2,
            {},
            "answer: {}: row 1: column 'answer' holds 'A', the letter of the choice 'B', or the "
            "text of 'A'; set dataset.choices_gold to letter or to text",
        ),
        (
            ["x", "y"],
            [FOUR] * 2,
            {},
            "answer: {}: row 1: column 'answer' holds 'x', which is no index, letter or text of "
            "the choices 'red', 'green', 'blue', 'grey'; name another column",
        ),
    ],
)
def test_golds_that_may_name_other_choices_are_refused(tmp_path, golds, choices, options, message):
    path = write(tmp_path / "a.jsonl", golds, choices)
    with pytest.raises(UserError) as caught:
        load(path, **options)
    assert str(caught.value) == f"config: dataset.{message.format(path)}"


@pytest.mark.parametrize(("reading", "letters"), [("index", "BC"), ("text", "AB")])
def test_the_reading_may_be_given(tmp_path, reading, letters):
    numbers = [["1", "2", "3"]] * 2
    assert right(tmp_path / "a.jsonl", [1, 2], numbers, choices_gold=reading) == list(letters)


def test_the_file_as_a_whole_shows_what_a_gold_is(tmp_path):
    """A gold that is also the text of another choice, in a file that can only hold indices."""
    choices = [FOUR, FOUR, FOUR, ["3", "2", "1", "0"]]
    assert right(tmp_path / "a.jsonl", [0, 3, 1, 0], choices) == ["A", "D", "B", "A"]


def test_choices_without_right_answers_need_labels(tmp_path):
    path = write(tmp_path / "a.jsonl", [1, 0], [FOUR] * 2)
    questions, _ = load(path, answer=None, label="answer")
    assert questions["question"][0].endswith("?\nA. red\nB. green\nC. blue\nD. grey")
    assert questions["aliases"].tolist() == [[], []]
    assert questions["label"].tolist() == [True, False]
