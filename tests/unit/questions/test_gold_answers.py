import datetime
import json
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_figures.core.errors import UserError
from llm_figures.questions.cell_values import (
    NotTextError,
    is_printed,
    parse_list,
    parse_object,
    read_text,
    show_cell,
    split_outside_brackets,
)
from llm_figures.questions.gold_answers import find_last_match, find_separator
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions

UTC = datetime.UTC
# Kinds of files in which a cell may hold text.
TEXT_KINDS = ("csv", "tsv", "json", "jsonl", "parquet")


def write(path, golds, **columns):
    """A file of questions with these right answers; its kind follows from its name."""
    table = {"question": [f"{n}?" for n in range(len(golds))], "answer": golds, **columns}
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.table(table), path)
        case ".jsonl" | ".json":
            names, rows = list(table), zip(*table.values(), strict=True)
            rows = [dict(zip(names, row, strict=True)) for row in rows]
            lines = json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows))
            path.write_text(lines)
        case suffix:
            separator = "\t" if suffix == ".tsv" else ","
            pd.DataFrame(table).to_csv(path, index=False, sep=separator)
    return str(path)


def load(path, **options):
    return load_questions(Dataset(path=str(path), **options))


def aliases(path, golds, **options):
    return load(write(path, golds), **options)[0]["aliases"].tolist()


def refusal(path, golds, columns=(), **options):
    """The one line that refuses a file, without its beginning and the file's name."""
    name = write(path, golds, **dict(columns))
    with pytest.raises(UserError) as caught:
        load(name, **options)
    line = str(caught.value)
    assert "\n" not in line
    key, _, rest = line.removeprefix("config: dataset.").partition(f"{name}: ")
    return f"{key}{rest}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (float("nan"), None),
        (Decimal("nan"), None),
        ("  ", None),
        (" a\n", "a"),
        ("0.10000000149011612", "0.10000000149011612"),
        ("1,234", "1,234"),
        (True, "true"),
        (7, "7"),
        (-0.0, "0"),
        (72.0, "72"),
        (1969.0, "1969"),
        (3.14159, "3.14159"),
        (1 / 3, "0.3333333333333333"),
        (1e23, "100000000000000000000000"),
        (1e25, "1e+25"),
        (1e-7, "0.0000001"),
        (1.5e-12, "1.5e-12"),
        (float("inf"), "inf"),
        (float(np.float32(0.1)), "0.1"),
        (float(np.float32(3.3e38)), "3.3e+38"),
        (123456792.0, "123456792"),
        (2**70, "1180591620717411303424"),
        (Decimal("72.00"), "72"),
        (Decimal("7.50"), "7.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.00"), "0"),
        (
            Decimal("12345678901234567890123456789012345.6"),
            "1.23456789012345678901234567890123456e+34",
        ),
        (datetime.date(1969, 7, 20), "1969-07-20"),
        (datetime.datetime(1969, 7, 20), "1969-07-20"),
        (datetime.datetime(1969, 7, 20, tzinfo=UTC), "1969-07-20"),
        (datetime.datetime(1969, 7, 20, 20, 17, 40), "1969-07-20 20:17:40"),
        (datetime.datetime(1969, 7, 20, 20, 17), "1969-07-20 20:17"),
        (datetime.datetime(1969, 7, 20, 0, 0, 1, 500000), "1969-07-20 00:00:01.5"),
        (pd.Timestamp("1969-07-20 20:17:40"), "1969-07-20 20:17:40"),
        (datetime.time(20, 17, 40), "20:17:40"),
        (datetime.time(20, 0), "20:00"),
        (datetime.timedelta(days=1), "1 day"),
        (datetime.timedelta(days=90), "90 days"),
        (datetime.timedelta(minutes=90), "1:30:00"),
        (datetime.timedelta(days=1, minutes=90), "1 day, 1:30:00"),
        (datetime.timedelta(minutes=-90), "-1:30:00"),
        (datetime.timedelta(), "0:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)
def test_a_value_is_the_text_that_a_person_would_write(value, text):
    assert read_text(value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["x"], "column 'c' holds a list, not text or a number"),
        (b"x", "column 'c' holds bytes, not text or a number"),
        ({}, "column 'c' holds an object, not text or a number"),
        ({"n": 1, "v": "x"}, "column 'c' holds an object; name a field, as in c.v"),
        ({"n": 1, "v": "x", "l": ["x"]}, "column 'c' holds an object; name a field, as in c.l"),
    ],
)
def test_what_is_no_text_is_named(value, message):
    with pytest.raises(NotTextError) as caught:
        read_text(value)
    assert caught.value.describe("c") == message


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["a", 1]', ["a", 1]),
        (" ['a', 'b'] ", ["a", "b"]),
        ("('a',)", ["a"]),
        ("{'b', 'a', 'c'}", ["b", "a", "c"]),
        ("[]", []),
        ("()", []),
        ("{}", []),
        (r"['\d']", ["\\d"]),
        ("['a' 'b']", None),
        ("[\"it's\" 'b']", None),
        ("('a')", None),
        ("(12)", None),
        ("[a, b]", None),
        ("['a'] or ['b']", None),
        ("['a'", None),
        ("['a', f()]", None),
        ("[" * 5000 + "]" * 5000, None),
        ("{'a': 'b'}", None),
        ("a", None),
        ("", None),
    ],
)
def test_lists_are_read_in_json_and_in_python(text, items):
    assert parse_list(text) == items


def test_objects_are_read_in_json_and_in_python():
    assert parse_object('{"a": null}') == {"a": None}
    assert parse_object("{'a': None, 'b': ('c', 1)}") == {"a": None, "b": ("c", 1)}
    assert [parse_object(text) for text in ("['a']", "{'a': 'b' 'c'}", "{a: b}", "")] == [None] * 4


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("['a' 'b']", True),
        ("['a'\n 'b']", True),
        ("{'x': array(['a'], dtype=object)}", True),
        ("array([1, 2])", True),
        ("[1 4]", True),
        ("[-0.5  2.e+00]", True),
        ("[np.str_('a')]", True),
        ("np.float64(0.1)", True),
        ("[Timestamp('1969-07-20')]", True),
        ("[Decimal('7')]", True),
        ("[list(['a', 'b'])]", True),
        ("['a', 'b']", False),
        ("[1, 4]", False),
        ("the array(1)", False),
        ("(It's here)", False),
        ("[sic]", False),
    ],
)
def test_what_numpy_printed_is_known(text, printed):
    assert is_printed(text) is printed


@pytest.mark.parametrize(
    ("text", "separator", "parts"),
    [
        ("a; b ;c", ";", ["a", "b", "c"]),
        ("a;;b;", ";", ["a", "b"]),
        ("a || b", "||", ["a", "b"]),
        ("P (a; b); [1; 4]", ";", ["P (a; b)", "[1; 4]"]),
        (":) ; b", ";", [":)", "b"]),
        ("(a; b", ";", ["(a", "b"]),
        (";", ";", []),
    ],
)
def test_separators_in_brackets_separate_nothing(text, separator, parts):
    assert split_outside_brackets(text, separator) == parts


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a; b", ";"),
        ("a|b", "|"),
        ("New York | NYC", "|"),
        ("a || b", "||"),
        ("U.S.; the US", ";"),
        ("Berne (CH); Bern", ";"),
        ("北京；首都", "；"),
        ("Bern\nBerne\n", "\n"),
        ("Bern \r\n Berne", "\n"),
        ("北京;首都", ";"),
        ("AT&amp;T", None),
        ("a &lt; b", None),
        ("P(A|B)", None),
        ("(2; 3)", None),
        ("|x| + |y|", None),
        ("a;", None),
        ("; a", None),
        ("a, b", None),
    ],
)
def test_a_separator_stands_between_words(text, mark):
    assert find_separator(text) == mark


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize(
    ("cell", "golds"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("['it\\'s', \"l'a\"]", ["it's", "l'a"]),
        ('["a; b", null, 7.0]', ["a; b", "7"]),
        ("1,234", ["1,234"]),
        ("(Paris)", ["(Paris)"]),
        ("[0, 1)", ["[0, 1)"]),
        ("[sic] mine", ["[sic] mine"]),
        ("AT&amp;T", ["AT&amp;T"]),
        ("True", ["True"]),
        ("1969-07-20 00:00:00", ["1969-07-20 00:00:00"]),
        ("'quoted'", ["'quoted'"]),
    ],
)
def test_text_with_one_reading_is_read(tmp_path, kind, cell, golds):
    assert aliases(tmp_path / f"a.{kind}", [cell, "x"]) == [golds, ["x"]]


LIST = (
    "either a list of answers or one answer such as an interval; "
    "set dataset.answer_format to list, or to text"
)
PRINTED = (
    "what Python or NumPy printed, which cannot be read back; save the data again as JSONL or "
    "Parquet"
)
BRACKETS = (
    "in brackets like a list or an object, but neither JSON nor Python; mend it, or set "
    "dataset.answer_format: text"
)
EITHER = (
    'either one answer or several with "{0}" between them; set dataset.separator: "{0}", or '
    "dataset.answer_format: text"
)
FIELD = "an object; name one of the fields, as in dataset.answer: answer.{}"
STEPS = "He sold 48/2 = 24 clips in May, so altogether he sold 48 + 24 = 72 clips.\n"


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize(
    ("cell", "doubt"),
    [
        ("[1, 4]", LIST),
        ("(1, 4)", LIST),
        ("(1,234)", LIST),
        ("{1, 2}", LIST),
        ("[true]", LIST),
        ("{'value': 'a', 'aliases': ['a', 'b']}", FIELD.format("aliases")),
        ('{"value": "a", "score": 1}', FIELD.format("value")),
        (
            '[{"text": "a", "start": 3}]',
            "a list of objects; name one of the fields, as in dataset.answer: answer.text",
        ),
        ("{'text': array(['a'], dtype=object)}", PRINTED),
        ("['a' 'b']", PRINTED),
        ("[1 4]", PRINTED),
        ("['a', nan]", BRACKETS),
        ("{a, b}", BRACKETS),
        ("a; b", EITHER.format(";")),
        ("a|b", EITHER.format("|")),
        ("北京；首都", EITHER.format("；")),
        ("Bern\nBerne", EITHER.format(r"\n")),
        ("#### 72", r"a text that ends in its answer; set dataset.answer_pattern: '####\s*(.+)'"),
        (
            f"{STEPS}#### 72",
            r"a text that ends in its answer; set dataset.answer_pattern: '####\s*(.+)'",
        ),
        (
            f"{STEPS}The answer is 72.",
            "a text that ends in its answer; set dataset.answer_pattern: "
            r"'(?i)answer(?: is|:)\s*(.+?)\.?$'",
        ),
        (
            r"So $\boxed{\frac{1}{2}}$.",
            r"a text with its answer in \boxed{}; set dataset.answer_pattern: boxed",
        ),
    ],
)
def test_text_with_two_readings_is_refused(tmp_path, kind, cell, doubt):
    shown = show_cell(cell)
    line = f"answer: row 2: column 'answer' holds {shown}, which is {doubt}"
    assert refusal(tmp_path / f"a.{kind}", ["x", cell]) == line
    # As it is, on request.
    assert aliases(tmp_path / f"b.{kind}", ["x", cell], answer_format="text") == [["x"], [cell]]


def test_a_long_cell_is_shown_by_its_ends():
    cell = f"{STEPS}#### 72"
    assert show_cell(cell) == (
        r"'He sold 48/2 = 24 clips in May, so  … he sold 48 + 24 = 72 clips.\n#### 72'"
    )


@pytest.mark.parametrize(
    ("cell", "options", "golds"),
    [
        ("[1, 4]", {"answer_format": "list"}, ["1", "4"]),
        ("(0.50, 'a')", {"answer_format": "list"}, ["0.5", "a"]),
        ("a; b", {"separator": ";"}, ["a", "b"]),
        ("a|b", {"separator": "|", "answer_format": "text"}, ["a", "b"]),
        ("Bern\n Berne", {"separator": "\n"}, ["Bern", "Berne"]),
        ("['a', 'b; c']", {"separator": ";"}, ["a", "b; c"]),
        ("['a', 'b; c']", {"separator": ";", "answer_format": "text"}, ["['a', 'b; c']"]),
        ("{'v': 'a', 'all': ['a', 'b']}", {"answer": "answer.all"}, ["a", "b"]),
        ('{"v": "a", "all": ["a", "b"]}', {"answer": "answer.v"}, ["a"]),
        ('{"v": "[1, 4]"}', {"answer": "answer.v", "answer_format": "list"}, ["1", "4"]),
        ('[{"text": "a"}, {"text": "b"}]', {"answer": "answer.text"}, ["a", "b"]),
        (f"{STEPS}#### 1,072", {"answer_pattern": r"####\s*(.+)"}, ["1,072"]),
        ("7 or 8", {"answer_pattern": r"\d"}, ["8"]),
        ("a: 7, a:", {"answer_pattern": r"a:(.*?)(?:,|$)"}, ["7"]),
        ("7 or 8", {"answer_pattern": r".*"}, ["7 or 8"]),
        ("(A) or B", {"answer_pattern": r"\((\w)\)|\b(B)"}, ["B"]),
        ("so [1, 4]", {"answer_pattern": r"\[.*\]"}, ["[1, 4]"]),
        ("is a; b", {"answer_pattern": r"is (.*)", "separator": ";"}, ["a", "b"]),
        (r"\boxed{1}, \boxed{\frac{1}{2}}.", {"answer_pattern": "boxed"}, [r"\frac{1}{2}"]),
    ],
)
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_the_option_of_a_cell_reads_it(tmp_path, kind, cell, options, golds):
    assert aliases(tmp_path / f"a.{kind}", [cell], **options) == [golds]


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {7} then \fbox{8}", "8"),
        (r"\boxed{a\}", None),
        (r"\boxed{7} and \boxed{ }", "7"),
        ("boxed", None),
    ],
)
def test_the_last_box_with_balanced_braces(text, box):
    assert find_last_match(text, "boxed") == box


def test_rows_that_the_pattern_does_not_match_are_left_out(tmp_path):
    path = write(tmp_path / "a.csv", ["#### 7", "none", None])
    questions, left_out = load(path, answer_pattern=r"####\s*(.+)")
    assert questions["aliases"].tolist() == [["7"]]
    assert left_out["reason"].tolist() == ["answer_pattern does not match the answer", "no answer"]


@pytest.mark.parametrize("cell", ["a", "7", "[sic] mine", "{'a': 1}", "[['a']]"])
def test_a_list_is_required_of_every_cell(tmp_path, cell):
    line = refusal(tmp_path / "a.csv", ["['x']", cell], answer_format="list")
    assert line == (
        f"answer_format: list: row 2: column 'answer' holds {show_cell(cell)}, which is no list of "
        "texts or numbers"
    )


def test_lists_of_typed_files_are_aliases(tmp_path):
    golds = [[1, 4], ["a; b", "[1, 4]", None], [], None, [0.1, 7.0], [True], True, False, 7, 2**70]
    expected = [
        *(["1", "4"], ["a; b", "[1, 4]"], ["0.1", "7"], ["yes", "true"]),
        *(["yes", "true"], ["no", "false"], ["7"], [str(2**70)]),
    ]
    assert aliases(tmp_path / "a.jsonl", golds) == expected
    assert aliases(tmp_path / "a.json", golds) == expected
    assert aliases(tmp_path / "b.jsonl", golds[:2], answer_format="list") == expected[:2]


DAY = datetime.datetime(1969, 7, 20)


@pytest.mark.parametrize(
    ("kind", "values", "golds"),
    [
        (pa.float32(), [0.1, 72, float("nan"), None], [["0.1"], ["72"]]),
        (pa.float16(), [np.float16(0.1)], [["0.1"]]),
        (pa.list_(pa.float32()), [[0.1, 0.7], []], [["0.1", "0.7"]]),
        (pa.large_list(pa.large_string()), [["a", "b"], None], [["a", "b"]]),
        (pa.dictionary(pa.int32(), pa.string()), ["a", "['b', 'c']"], [["a"], ["b", "c"]]),
        (pa.timestamp("us"), [DAY, DAY.replace(hour=20)], [["1969-07-20"], ["1969-07-20 20:00"]]),
        (pa.timestamp("ns", "UTC"), [DAY], [["1969-07-20"]]),
        (pa.date32(), [DAY.date()], [["1969-07-20"]]),
        (pa.list_(pa.date32()), [[DAY.date()]], [["1969-07-20"]]),
        (pa.decimal128(9, 2), [Decimal("72.00"), Decimal("7.25")], [["72"], ["7.25"]]),
        (pa.bool_(), [True, False, None], [["yes", "true"], ["no", "false"]]),
        (pa.uint64(), [2**64 - 1], [["18446744073709551615"]]),
        (pa.duration("s"), [datetime.timedelta(hours=2)], [["2:00:00"]]),
    ],
    ids=str,
)
def test_typed_columns_of_parquet_are_read_as_a_person_would(tmp_path, kind, values, golds):
    assert aliases(tmp_path / "a.parquet", pa.array(values, kind)) == golds


def test_bytes_are_refused(tmp_path):
    line = refusal(tmp_path / "a.parquet", pa.array([b"x"], pa.binary()))
    assert line == (
        "path: no questions are left; 1 of 1 row(s): column 'answer' holds bytes, not text or a "
        "number"
    )


def test_other_columns_have_types_too(tmp_path):
    columns = {
        "no": pa.array([1.0, 2.0], pa.float32()),
        "kind": pa.array([0.1, None], pa.float32()),
        "on": pa.array([DAY, DAY], pa.timestamp("ns")),
        "ok": pa.array([Decimal("1.00"), Decimal("0.00")], pa.decimal128(9, 2)),
        "who": pa.array(["W?", "V?"], pa.dictionary(pa.int8(), pa.string())),
    }
    path = write(tmp_path / "a.parquet", ["x", "y"], **columns)
    questions, left_out = load(path, id="no", group="kind", frame="on", label="ok", question="who")
    assert questions["id"].tolist() == ["1", "2"]
    assert questions["question"].tolist() == ["W?", "V?"]
    assert questions["group"][0] == "0.1"
    assert pd.isna(questions["group"][1])
    assert questions["frame"].tolist() == ["1969-07-20"] * 2
    assert questions["label"].tolist() == [True, False]
    assert left_out.empty


def test_one_doubtful_cell_of_many_costs_its_row_alone(tmp_path, caplog):
    golds = [f"city {number}" for number in range(150)]
    golds[70] = "one; two"
    with caplog.at_level("INFO", "llm_figures"):
        questions, left_out = load(write(tmp_path / "a.csv", golds))
    assert len(questions) == 149
    assert left_out["row"].tolist() == [71]
    assert left_out["reason"].tolist() == [f"answer is {EITHER.format(';')}"]
    assert f"1 row(s) left out: answer is {EITHER.format(';')}" in caplog.messages
    golds[90] = "three; four"
    assert refusal(tmp_path / "b.csv", golds) == (
        "answer: row 71: column 'answer' holds 'one; two', which is "
        f"{EITHER.format(';')} (2 of 150 rows)"
    )
    assert aliases(tmp_path / "c.csv", golds, separator=";")[70] == ["one", "two"]


@pytest.mark.parametrize(
    ("golds", "columns", "named"),
    [
        ([0, 2], {"choices": [["a", "b", "c"]] * 2}, "choices"),
        (["1", "3"], {"x": ["s", "t"], "Options": ["['a', 'b', 'c']"] * 2}, "Options"),
        ([1, 0], {"tags": [["s", "t"]] * 2, "endings": [["a", "b"]] * 2}, "endings"),
        ([1.0, 0.0], {"anything": [["a", "b"]] * 2}, "anything"),
        (["B", "a"], {"candidates": ['["a", "b"]'] * 2}, "candidates"),
        (["C", "3"], {"choices": [{"text": list("abc"), "label": list("ABC")}] * 2}, "choices"),
        (["A", "C"], {"A": ["s", "t"], "B": ["u", "v"], "C": ["w", "x"]}, "[A, B, C]"),
        ([1, 2], {"choice1": ["s", "t"], "choice2": ["u", "v"]}, "[choice1, choice2]"),
        ([0, 1], {"ending0": ["s", "t"], "ending1": ["u", "v"]}, "[ending0, ending1]"),
        ([1, 2], {"opa": ["s", "t"], "opb": ["u", "v"]}, "[opa, opb]"),
    ],
)  # fmt: skip
def test_indices_beside_choices_are_refused(tmp_path, golds, columns, named):
    message = (
        f"answer: row 1: column 'answer' holds {read_text(golds[0])!r}, which is the number or "
        f"letter of a choice in {named}; set dataset.choices: {named}, or "
        "dataset.answer_format: text if the questions show the choices"
    )
    path = tmp_path / "a.jsonl"
    assert refusal(path, golds, columns) == message
    assert len(load(path, answer_format="text")[0]) == 2


@pytest.mark.parametrize(
    ("golds", "columns"),
    [
        (["0", "Paris"], {"choices": [["a", "b"]] * 2}),  # not all are indices
        ([0, 5], {"choices": [["a", "b"]] * 2}),  # beyond the choices
        (["H", "N"], {"aliases": [["a", "b"]] * 2}),  # symbols, beyond the choices
        ([2, 1], {"choices": [["1", "2"], ["1", "3"]]}),  # texts of choices
        ([1969, 7], {"context": [["a", "b"]] * 2}),
        ([1, 0], {"context": ["some text", "more"]}),
        ([1, 0], {"choices": [["0", "1"], ["? ", "?"]], "question": ["0 or 1?", "Which?"]}),
        ([True, False], {"choices": [["a", "b"]] * 2}),
    ],
)
def test_answers_that_are_no_indices_are_read_beside_lists(tmp_path, golds, columns):
    questions, left_out = load(write(tmp_path / "a.jsonl", golds, **columns))
    assert len(questions) == 2
    assert left_out.empty
