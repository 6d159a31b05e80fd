import datetime
import decimal
import gzip
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_figures.core.errors import UserError
from llm_figures.questions.options import Dataset
from llm_figures.questions.question_files import (
    QuestionFile,
    column_problems,
    find_question_files,
    read_columns,
    read_rows,
)
from llm_figures.workflow.config import check_config

REVISION = "0" * 40
HUB = Dataset(
    source="hub",
    repo="some/questions",
    revision=REVISION,
    file="data/train-*.jsonl",
    hold_out="data/test.jsonl",
)


def local(path, content=None):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return QuestionFile(path, path.name, str(path), "path")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such file"),
        ("empty.csv", "", "is empty"),
        ("blank.jsonl", "\n \n", "is empty"),
        ("empty.parquet", "", "cannot be read: "),
        ("torn.parquet", b"PAR1" + b"x" * 40, "cannot be read: "),
        ("data.xlsx", "x", "unknown kind '.xlsx'; allowed: .csv, .json, "),
        ("data.parquet.gz", b"", "unknown kind '.gz'; allowed: "),
        ("data.gz", b"", "unknown kind '.gz'; allowed: "),
        (
            "latin.tsv.gz",
            gzip.compress("q\ta\nwho\tmé".encode("latin-1"), mtime=0),
            "line 2 is not UTF-8",
        ),
        ("latin.csv", "question,añswer\n".encode("latin-1"), "line 1 is not UTF-8; save"),
        ("latin.tsv", "q\ta\nx\ty\nwho\tmé\n".encode("latin-1"), "line 3 is not UTF-8; save"),
        ("utf16.csv", "question,answer\n".encode("utf-16"), "line 1 is not UTF-8; save"),
        (
            "ragged.csv",
            'q,a\n"x\ny",z\nwho,me,you\n',
            "line 4: 3 cell(s) under a header of 2; quote",
        ),
        ("short.csv", "q,a\nwho\n", "line 2: 1 cell(s) under a header of 2; quote"),
        ("open.csv", 'q,a\n\n"who,me\nx,y\n', "line 3: unexpected end of data; check the quotes"),
        ("bad.jsonl", '{"q": 1}\n\n{"q": \n', "line 3: Expecting value (column 6)"),
        ("half.jsonl", '{"q": "\\ud800"}', "line 1: q: '\\ud800' holds a lone surrogate"),
        ("list.jsonl", '{"q": 1}\n[1]', "line 2 is not a JSON object"),
        ("array.jsonl", '[{"q": 1}]', "line 1 is not a JSON object; name a file that is one array"),
        ("array.ndjson", '[\n{"q": 1}\n]', "line 1: Expecting value (column 2); name a file that"),
        ("deep.jsonl", "[" * 99_999, "line 1 is nested too deeply"),
        ("empty.json", " \n", "is empty"),
        ("no.json", "[]", "is empty"),
        ("bad.json", '[{"q": 1},\n {"q": }]', "line 2: Expecting value (column 8)"),
        ("open.json", '[{"q": 1}', "line 1: Expecting ',' delimiter (column 10)"),
        ("deep.json", "[" * 99_999, "is nested too deeply"),
        (
            "half.json",
            '[{"q": "x"}, {"q": "\\ud800"}]',
            "item 2 of the array: q: '\\ud800' holds a lone",
        ),
        ("mixed.json", '[{"q": 1}, 2]', "item 2 of the array is not a JSON object"),
        ("value.json", "3", "is one JSON value; save an array of objects, as pandas does with "),
        ("one.json", '{"q": "x"}', "is one object; save an array of objects"),
        ("columns.json", '{"q": {"0": "x"}}', "is an object of columns, not of rows; save"),
        ("lists.json", '{"q": ["x"], "a": ["y"]}', "is an object of columns, not of rows; save"),
        (
            "two.json",
            '{"train": [{"q": 1}], "test": [{"q": 2}]}',
            "is an object with several arrays of objects: train, test; save",
        ),
        (
            "cut.jsonl.gz",
            gzip.compress(b'{"q": 1}\n' * 3, mtime=0)[:-9],
            "the compressed file is damaged after line 3: Compressed file ended before the end",
        ),
        (
            "torn.csv.gz",
            gzip.compress(b"q,a\nb,c\n", mtime=0)[:-5] + b"\0" * 5,
            "the compressed file is damaged after line 2: CRC check failed",
        ),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, name, content, message):
    file = local(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        list(read_rows(file, read_columns(file)))
    assert str(caught.value).startswith(f"config: dataset.path: {tmp_path / name}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["data.csv", "data.tsv", "data.json", "data.jsonl", "data.parquet", "data.csv.gz"]
)
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 269\n"
    file = local(tmp_path / name, pointer)
    assert list(column_problems(Dataset(), file)) == [
        f"config: dataset.path: {tmp_path / name}: is a Git LFS pointer, not the file itself; "
        "fetch it with: git lfs pull"
    ]
    with pytest.raises(UserError, match="is a Git LFS pointer"):  # also where rows are read alone
        list(read_rows(file, ["question"]))


def test_a_folder_is_no_file(tmp_path):
    folder = tmp_path / "data.parquet"
    folder.mkdir()
    assert list(column_problems(Dataset(), local(folder))) == [
        f"config: dataset.path: {folder}: is a folder; name a file in it"
    ]


def test_keys_that_the_first_row_of_a_jsonl_file_lacks_are_columns(tmp_path):
    file = local(tmp_path / "a.jsonl", '{"q": "x"}\n{"q": "y", "kind": "z"}\n')
    assert read_columns(file) == ["q", "kind"]
    assert list(read_rows(file, ["kind"])) == [{"kind": None}, {"kind": "z"}]


def test_a_field_of_a_column_is_named_with_a_dot(tmp_path):
    rows = [{"q": "x", "a": {"names": ["b", "c"], "of": {"n": 1}}}, {"q": "y", "a": None}]
    lines = local(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    table = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    for file in (lines, local(table)):
        dataset = Dataset(question="q", answer="a.names", group="a.of.n")
        assert list(column_problems(dataset, file)) == []
        assert list(read_rows(file, ["a.names", "a.of.n"])) == [
            {"a.names": ["b", "c"], "a.of.n": 1},
            {"a.names": None, "a.of.n": None},
        ]
        assert len(list(column_problems(dataset.changed(id="b.names"), file))) == 1


RECORDS = [{"q": "Wer?", "a": "Zoë"}, {"q": "Was?", "a": "[1"}]
LINES = "\r\n".join(map(json.dumps, RECORDS))
TEXTS = {
    "csv": "q,a\r\nWer?,Zoë\r\nWas?,[1\r\n",
    "tsv": "q\ta\nWer?\tZoë\nWas?\t[1\n",
    "json": json.dumps(RECORDS, indent=1),
    "jsonl": LINES,
    "ndjson": LINES,
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
@pytest.mark.parametrize("end", ["", ".gz", ".GZ"])
def test_text_files_may_be_compressed_and_marked(tmp_path, kind, mark, end):
    content = (mark + TEXTS[kind]).encode()
    file = local(tmp_path / f"a.b.{kind}{end}", gzip.compress(content, mtime=0) if end else content)
    assert read_columns(file) == ["q", "a"]
    assert list(read_rows(file, ["a", "q"])) == RECORDS


def test_compression_is_known_by_content(tmp_path):
    for name, content in (
        ("a.jsonl.gz", LINES.encode()),
        ("b.jsonl", gzip.compress(LINES.encode())),
    ):
        assert list(read_rows(local(tmp_path / name, content), ["q", "a"])) == RECORDS


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"version": 1, "data": RECORDS, "notes": [], "tags": ["x"]}),
        LINES,
        "\n".join(map(json.dumps, RECORDS)) + "\n\n",
    ],
    ids=["within an object", "lines", "lines and blank ones"],
)
def test_json_holds_its_rows_in_the_only_array_or_in_lines(tmp_path, content):
    assert list(read_rows(local(tmp_path / "a.json", content), ["q", "a"])) == RECORDS


@pytest.mark.parametrize(
    "cell",
    [
        '{"names": ["b", "c"], "of": {"n": 1}}',
        "{'names': ['b', 'c'], 'of': {'n': 1}}",
        "{'names': ('b', 'c'), 'of': {\"n\": 1}}",
    ],
)
def test_a_field_is_found_in_an_object_written_as_text(tmp_path, cell):
    for name, kind in (("a.csv", "csv"), ("a.json", "json"), ("a.parquet", "parquet")):
        frame = pd.DataFrame({"q": ["x", "y"], "a": [cell, None]})
        path = tmp_path / name
        match kind:
            case "csv":
                frame.to_csv(path, index=False)
            case "json":
                frame.to_json(path, orient="records")
            case _:
                frame.to_parquet(path)
        rows = list(read_rows(local(path), ["a.names", "a.of.n"]))
        assert [list(rows[0]["a.names"]), rows[0]["a.of.n"]] == [["b", "c"], 1]
        assert rows[1] == {"a.names": None, "a.of.n": None}


def test_a_field_of_a_list_of_objects_is_a_list(tmp_path):
    answers = [{"text": "b", "start": 1}, {"text": "c"}]
    lines = [{"a": answers}, {"a": json.dumps(answers)}, {"a": repr(answers)}, {"a": []}, {}]
    file = local(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    found = [row["a.text"] for row in read_rows(file, ["a.text"])]
    assert found == [["b", "c"]] * 3 + [[], None]
    assert next(read_rows(file, ["a.start"])) == {"a.start": [1]}


def test_a_column_whose_name_has_a_dot_is_that_column(tmp_path):
    frame = pd.DataFrame({"a.b": ["x"], "a": ['{"b": "y"}']})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        assert list(read_rows(local(tmp_path / name), ["a.b"])) == [{"a.b": "x"}]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('{"value": 1, "alias": 2}', "no such field; there is value, alias"),
        ("Paris", "'Paris' is no object with fields"),
        (
            "{'aliases': array(['a'], dtype=object)}",
            "\"{'aliases': array(['a'], dtype=object)}\" is what Python or NumPy printed, which "
            "cannot be read back; save the data again as JSONL or Parquet",
        ),
    ],
)
def test_a_field_that_no_row_has_is_one_line(tmp_path, cell, message):
    file = local(tmp_path / "a.jsonl", "\n".join(json.dumps({"a": a}) for a in (None, "", cell)))
    with pytest.raises(UserError) as caught:
        list(read_rows(file, ["a.aliases"]))
    assert str(caught.value) == f"{file.where}: column 'a.aliases': {message}"
    assert list(read_rows(file, ["a"], ["a.aliases"]))[2] == {"a": cell, "a.aliases": None}


F32, DAY = pa.float32(), datetime.datetime(1969, 7, 20)


@pytest.mark.parametrize(
    ("kind", "values", "plain"),
    [
        (F32, [0.1, 72.0, -3.14, 1e-7, None], [0.1, 72.0, -3.14, 1e-7, None]),
        (pa.float16(), [np.float16(0.1), np.float16(2048)], [0.1, 2048.0]),
        (pa.float64(), [0.1, 1 / 3], [0.1, 1 / 3]),
        (pa.list_(F32), [[0.1, None], None, [], [0.7]], [[0.1, None], None, [], [0.7]]),
        (pa.large_list(F32), [None, [0.1], [0.7, 3]], [None, [0.1], [0.7, 3.0]]),
        (pa.list_(F32, 2), [[0.1, 0.2], None, [0.3, 4]], [[0.1, 0.2], None, [0.3, 4.0]]),
        (
            pa.struct({"v": pa.list_(F32), "w": pa.large_string()}),
            [{"v": [0.1], "w": "x"}, None, {"v": None, "w": None}],
            [{"v": [0.1], "w": "x"}, None, {"v": None, "w": None}],
        ),
        (pa.map_(pa.string(), pa.int32()), [[("x", 1)], None], [{"x": 1}, None]),
        (pa.dictionary(pa.int8(), pa.string()), ["x", None, "x"], ["x", None, "x"]),
        (pa.large_list(pa.large_string()), [["x"], None], [["x"], None]),
        (pa.timestamp("ns"), [DAY, None], [DAY, None]),
        (pa.decimal128(9, 2), [decimal.Decimal("72.00")], [decimal.Decimal("72.00")]),
        (pa.null(), [None, None], [None, None]),
    ],
    ids=str,
)
def test_values_of_parquet_have_the_shortest_text_of_their_type(tmp_path, kind, values, plain):
    pq.write_table(pa.table({"a": pa.array(values, kind)}), tmp_path / "a.parquet")
    rows = read_rows(local(tmp_path / "a.parquet"), ["a"])
    assert [row["a"] for row in rows] == plain


def test_every_missing_and_every_double_column_is_named(tmp_path):
    file = local(tmp_path / "a.csv", "question,reply,kind,kind\n")
    assert list(column_problems(Dataset(group="kind", label="ok"), file)) == [
        f"config: dataset.answer: {file.path} has no column 'answer'; "
        "it has: question, reply, kind, kind",
        f"config: dataset.group: {file.path} has more than one column 'kind'",
        f"config: dataset.label: {file.path} has no column 'ok'; "
        "it has: question, reply, kind, kind",
    ]


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"source": "path"}, ["dataset.path: missing; source: path needs path"]),
        (
            {"repo": "a/b"},
            [
                "dataset.revision: missing; source: hub needs repo, revision, file",
                "dataset.file: missing; source: hub needs repo, revision, file",
            ],
        ),
        ({"path": "mine.csv", "answer": None}, ["dataset.answer: null without dataset.label; "]),
        ({"path": "mine.csv", "hold_out": "no.csv"}, ["dataset.hold_out: no.csv: no such file"]),
        (
            {"path": "mine.csv", "hold_out": "other.csv"},
            ["dataset.question: other.csv has no column 'question'; it has: ask, answer"],
        ),
        ({"label": "ok"}, ["dataset.label: 'ok'; only for questions of your own "]),
        ({"file": "a.csv"}, ["dataset.file: 'a.csv'; only for questions of your own "]),
        (
            {"separator": ";", "choices": ["a", "b"]},
            [
                "dataset.separator: ';'; only for questions of your own ",
                "dataset.choices: ['a', 'b']; only for questions of your own ",
            ],
        ),
        (
            {"path": "mine.csv", "choices": ["answer", "b"]},
            ["dataset.choices: mine.csv has no column 'b'; it has: question, answer"],
        ),
        (
            {"path": "mine.csv", "answer_pattern": "(a"},
            [
                "dataset.answer_pattern: '(a' is not a regular expression (missing ), "
                "unterminated subpattern at position 0); correct it"
            ],
        ),
        (
            {"path": "mine.csv", "answer_format": "list", "separator": ";", "answer_pattern": "a"},
            [
                "dataset.separator: ';'; dataset.answer_format: list takes whole cells as lists; ",
                "dataset.answer_pattern: 'a'; dataset.answer_format: list takes whole cells as ",
            ],
        ),
        (
            {"path": "mine.csv", "choices_gold": "text", "choices_from": 1},
            [
                "dataset.choices_gold: 'text' without dataset.choices; name the column of choices",
                "dataset.choices_from: 1 without dataset.choices; name the column of choices",
            ],
        ),
        ({"path": "mine.csv", "answer_pattern": "boxed", "choices": ["question", "answer"]}, []),
        ({"wrong": "other"}, ["dataset.wrong: 'other'; only for questions of your own "]),
        (
            {"path": "mine.csv", "wrong": "other"},
            ["dataset.wrong: mine.csv has no column 'other'; it has: question, answer"],
        ),
        (
            {"path": "mine.csv", "wrong": "answer", "choices": ["question", "answer"]},
            ["dataset.wrong: 'answer' beside dataset.choices, whose other choices are the wrong "],
        ),
        (
            {"path": "mine.csv", "label": "answer"},
            ["dataset.label: 'answer' judges answers that the file does not give; "],
        ),
        (
            {"path": "mine.csv", "response": "reply"},
            ["dataset.response: mine.csv has no column 'reply'; it has: question, answer"],
        ),
        ({"response": "answer"}, ["dataset.response: 'answer'; only for questions of your own "]),
        (
            {"path": "mine.csv", "answer": None, "response": "answer"},
            ["dataset.answer: null without dataset.label; "],
        ),
        (
            {
                "path": "mine.csv",
                "answer": None,
                "response": "answer",
                "label": "answer",
                "hold_out": "mine.csv",
            },
            [],
        ),
        ({"repo": "a/b", "revision": REVISION, "file": "a.csv", "hold_out": "b.csv"}, []),
    ],
    ids=str,
)
def test_what_is_known_before_a_job_is_a_line_for_each_key(
    default_config, root, tmp_path, monkeypatch, changes, messages
):
    (tmp_path / "mine.csv").write_text("question,answer\n")
    (tmp_path / "other.csv").write_text("ask,answer\n")
    monkeypatch.chdir(tmp_path)
    default_config["dataset"].update(changes)
    try:
        check_config(default_config, root / "config/models.yaml")
        lines = []
    except UserError as error:
        lines = str(error).splitlines()
    assert len(lines) == len(messages), lines
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"config: {message}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that refuses connections, and an empty cache of it: the snapshot's folder."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tmp_path / "datasets--some--questions" / "snapshots" / REVISION


@pytest.fixture
def snapshot(hub):
    (hub / "data").mkdir(parents=True)
    for name in ("train-2", "train-1", "test"):
        (hub / "data" / f"{name}.jsonl").write_text(f'{{"question": "{name}?", "answer": "x"}}\n')
    (hub / "README.md").write_text("")
    return hub


def test_files_of_the_hub_come_from_its_cache_sorted_and_apart(snapshot):
    training, held_out = (find_question_files(HUB, part) for part in (False, True))
    assert [file.name for file in training] == ["data/train-1.jsonl", "data/train-2.jsonl"]
    assert [file.path for file in held_out] == [snapshot / "data" / "test.jsonl"]
    assert training[1].where == "config: dataset.file: some/questions: data/train-2.jsonl"
    assert list(read_rows(training[0], ["question"])) == [{"question": "train-1?"}]


@pytest.mark.parametrize("known", [False, True])
def test_a_name_that_no_file_has_is_one_line_with_the_names_there_are(snapshot, monkeypatch, known):
    if known:
        from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

        entry = TreeCacheEntry(size=0, blob_id="", lfs_sha256=None, lfs_size=None, xet_hash=None)
        names = [f"data/{number:02}.csv" for number in range(12)]
        write_tree_cache(str(snapshot.parents[1]), REVISION, dict.fromkeys(names, entry))
    with pytest.raises(UserError) as caught:
        find_question_files(HUB.changed(file="train.csv"))
    there = (
        "; there is " + ", ".join(f"data/{number:02}.csv" for number in range(10)) + " and 2 more"
        if known
        else " in the cached copy, which has README.md, data/test.jsonl, "
        "data/train-1.jsonl, data/train-2.jsonl; connect to the network, or correct the name"
    )
    assert str(caught.value) == (
        f"config: dataset.file: some/questions at revision {REVISION}: "
        f"no file matches 'train.csv'{there}"
    )


def test_a_refused_connection_to_the_hub_is_one_line(hub):
    with pytest.raises(UserError) as caught:
        find_question_files(HUB)
    line = str(caught.value)
    start = f"config: dataset.file: some/questions at revision {REVISION} cannot be fetched: "
    assert re.match(re.escape(start) + r"LocalEntryNotFoundError: .*refused", line)
    assert line.endswith("check the name, the revision and the network, or use source: path")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("GatedRepo", 403, "the dataset is gated; accept its terms on the hub and log in"),
        ("RepoNotFound", 404, "no such dataset; correct its name, or log in for a private one"),
        ("RevisionNotFound", 404, "the dataset has no such revision; take a commit of its history"),
    ],
)
def test_what_the_hub_refuses_is_named(hub, monkeypatch, code, status, message):
    import httpx2
    from huggingface_hub.utils import _http

    def answer(request):
        return httpx2.Response(status, headers={"X-Error-Code": code}, request=request)

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(_http, "get_session", lambda: client)
    with pytest.raises(UserError, match=f"some/questions at .* cannot be fetched: {message}"):
        find_question_files(HUB)


def test_the_home_folder_may_be_written_short(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = Dataset(path="~/a.csv", hold_out="~/b.csv").resolved()
    files = [find_question_files(dataset, held_out)[0].path for held_out in (False, True)]
    assert files == [tmp_path / "a.csv", tmp_path / "b.csv"]


def test_a_dataset_without_a_source_is_the_file_the_repository_or_the_facts():
    sources = [Dataset(), Dataset(repo="a/b"), Dataset(repo="a/b", path="x.csv")]
    assert [dataset.resolved().source for dataset in sources] == ["facts", "hub", "path"]
    assert Dataset(source="facts", path="x.csv").resolved().source == "facts"
