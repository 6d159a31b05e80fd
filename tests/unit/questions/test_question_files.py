import json
import re

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
        ("data.xlsx", "x", "unknown kind '.xlsx'; allowed: .csv, .jsonl, .parquet, .tsv"),
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
        ("half.jsonl", '{"q": "\\ud800"}', "line 1: 'utf-8' codec can't encode"),
        ("list.jsonl", '{"q": 1}\n[1]', "line 2 is not a JSON object"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, name, content, message):
    file = local(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        list(read_rows(file, read_columns(file)))
    assert str(caught.value).startswith(f"config: dataset.path: {tmp_path / name}: {message}")
    assert "\n" not in str(caught.value)


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
