import json

import pandas as pd
import pytest

import build_questions
from judged_answers import is_right
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.questions.facts import build_facts
from llm_figures.questions.options import Dataset, ExactAnswer
from llm_figures.questions.questions import LEFT_OUT_TYPES, QUESTION_TYPES, load_questions
from llm_figures.questions.spans import find_exact_answer


def written(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def load(path, **changes):
    return load_questions(Dataset(path=str(path)).changed(**changes))


def test_the_built_in_facts_are_about_a_thousand_distinct_questions():
    questions = build_facts()
    assert 950 <= len(questions) <= 1100
    assert questions["question"].is_unique
    assert questions["group"].value_counts().min() >= 50
    assert questions["aliases"].map(len).min() >= 1
    aliases = questions.set_index("question")["aliases"]
    assert aliases["What is the capital of Albania?"] == ["Tirana"]
    assert "Euro" in aliases["What is the currency of Croatia?"]
    assert aliases["What is the chemical symbol of tungsten?"] == ["W"]
    assert aliases["What is the atomic number of gold?"] == ["79"]
    assert aliases["What is the continent of the Netherlands?"] == ["Europe"]
    assert aliases["What is the capital of the US state of Texas?"] == ["Austin"]


def test_a_right_answer_in_its_frame_is_located_and_judged_right():
    for row in build_facts().itertuples():
        for alias in row.aliases:
            answer = f" {row.frame} {alias}."
            span, _ = find_exact_answer(answer, row.frame, ExactAnswer())
            assert span, answer
            assert is_right(answer[slice(*span)], row.aliases), answer


def test_the_facts_are_typed_and_numbered_from_one():
    questions, left_out = load_questions(Dataset())
    assert questions["id"].tolist() == [str(number + 1) for number in range(len(questions))]
    assert questions["split_group"].is_unique
    assert questions["label"].isna().all()
    assert not questions["hold_out"].any()
    assert left_out.empty


def test_questions_of_the_preamble_are_left_out():
    everything, _ = load_questions(Dataset())
    shown = everything["question"][7]
    rest, left_out = load_questions(Dataset(), preamble=f"Q: {shown.lower()}\nA: …")
    assert len(rest) == len(everything) - 1
    assert shown not in set(rest["question"])
    assert rest["question_id"].tolist() == list(range(len(rest)))
    assert left_out.to_dict("records") == [
        {
            "source": "facts",
            "row": 8,
            "id": "8",
            "question": shown,
            "reason": "the prompt's preamble answers it",
        }
    ]


def test_a_question_over_several_lines_is_found_in_the_preamble(tmp_path):
    path = written(tmp_path / "mine.csv", 'question,answer\n"One\ntwo?",me\nThree?,you\n')
    questions, _ = load_questions(Dataset(path=path), preamble="Q: One\ntwo?\nA: me")
    assert questions["question"].tolist() == ["Three?"]


def test_limit_samples_reproducibly_and_leaves_nothing_out():
    (first, left_out), (second, _) = (load_questions(Dataset(limit=60)) for _ in range(2))
    other, _ = load_questions(Dataset(limit=60, seed=1))
    assert first["question"].tolist() == second["question"].tolist()
    assert len(first) == len(other) == 60
    assert first["question"].tolist() != other["question"].tolist()
    assert left_out.empty


ROWS = [
    {"ask": 'Who,\nor "what"?', "gold": ["you", None, 7.0, True], "kind": "a", "no": 3},
    {"ask": "Where is «it»? 🌍", "gold": ["here"], "kind": None, "no": 1},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_own_files_with_own_column_names(tmp_path, kind, mark):
    path = tmp_path / f"mine.{kind}"
    match kind:
        case "csv" | "tsv":
            cells = [{**ROWS[0], "gold": json.dumps(ROWS[0]["gold"])}, {**ROWS[1], "gold": " here"}]
            table = pd.DataFrame(cells)
            separator = "," if kind == "csv" else "\t"
            written(path, mark + table.to_csv(index=False, lineterminator="\r\n", sep=separator))
        case "jsonl":
            rows = [ROWS[0], {**ROWS[1], "gold": "here"}]
            written(path, mark + "\r\n\r\n".join(json.dumps(row) for row in rows))
        case _:
            table = pd.DataFrame(ROWS)
            table["gold"] = [["you", None, "7", "yes", "true"], ["here"]]
            table.to_parquet(path)
    questions, left_out = load(path, question="ask", answer="gold", group="kind", id="no")
    assert questions["question"].tolist() == [row["ask"] for row in ROWS]
    assert questions["aliases"].tolist() == [["you", "7", "yes", "true"], ["here"]]
    assert questions["group"][0] == "a"
    assert pd.isna(questions["group"][1])
    assert questions["id"].tolist() == ["3", "1"]
    assert left_out.empty


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_of_typed_files_become_plain_text(tmp_path, kind):
    table = pd.DataFrame({"question": ["a?", "b?", "c?", "d?"], "answer": [7.0, 0.5, None, 1e20]})
    path = tmp_path / f"mine.{kind}"
    if kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    questions, left_out = load(path)
    assert questions["aliases"].tolist() == [["7"], ["0.5"], ["100000000000000000000"]]
    assert left_out["row"].tolist() == [3]


def test_every_unusable_row_is_listed_with_its_reason(tmp_path, caplog):
    text = (
        "no,question,answer,judged\n"
        "a,Who?,me,yes\n"
        "b, ,me,yes\n"
        "c,What?,,1\n"
        "d,When?,now,\n"
        "e,Where?,here,maybe\n"
        ",Why?,so,no\n"
        "h,Whose?,[sic] mine,INCORRECT\n"
    )
    path = written(tmp_path / "mine.csv", text)
    with caplog.at_level("INFO", "llm_figures"):
        questions, left_out = load(path, id="no", label="judged")
    assert questions["question"].tolist() == ["Who?", "Whose?"]
    assert questions["label"].tolist() == [True, False]
    assert questions["aliases"].tolist() == [["me"], ["[sic] mine"]]
    assert questions["choices"].tolist() == [[], []]
    assert set(left_out["source"]) == {"mine.csv"}
    assert dict(zip(left_out["row"], left_out["reason"], strict=True)) == {
        2: "no question",
        3: "no answer",
        4: "no label",
        5: "label is none of true/false, 1/0, right/wrong, correct/incorrect, yes/no",
        6: "no id",
    }
    assert left_out["id"].dropna().tolist() == ["b", "c", "d", "e"]
    assert "1 row(s) left out: no answer" in caplog.messages
    assert "2 questions" in caplog.messages


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(True, False), (1, 0), (1.0, 0.0), ("True", "FALSE"), ("right", "wrong"), ("Yes", "no")],
    ids=str,
)
def test_labels_need_no_answers(tmp_path, right, wrong):
    rows = [{"question": "a?", "ok": right}, {"question": "b?", "ok": wrong}]
    path = written(tmp_path / "mine.jsonl", "\n".join(map(json.dumps, rows)))
    questions, left_out = load(path, answer=None, label="ok")
    assert questions["label"].tolist() == [True, False]
    assert questions["aliases"].tolist() == [[], []]
    assert left_out.empty


def test_responses_stand_as_they_are_and_a_row_without_one_is_left_out(tmp_path):
    given = [" Paris ", "Lima.\nYes", 7, True, " \n", None, ["a"]]
    rows = [
        {"question": f"{number}?", "answer": "x", "said": said} for number, said in enumerate(given)
    ]
    path = written(tmp_path / "mine.jsonl", "\n".join(map(json.dumps, rows)))
    questions, left_out = load(path, response="said")
    assert questions["response"].tolist() == [" Paris ", "Lima.\nYes", "7", "true"]
    assert left_out["reason"].tolist() == [
        "no response",
        "no response",
        "column 'said' holds a list, not text or a number",
    ]
    assert load(path)[0]["response"].isna().all()
    table = written(tmp_path / "a.csv", 'question,answer,said\nWho?,me," It is me\n"\n')
    assert load(table, response="said")[0]["response"].tolist() == [" It is me\n"]


def split_groups(tmp_path, questions):
    lines = [json.dumps({"question": question, "answer": "x"}) for question in questions]
    path = written(tmp_path / "mine.jsonl", "\n".join(lines))
    return load(path)[0]["split_group"].tolist()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Who is it?", "who  IS\nit", True),
        ("Straße — where?", "STRASSE where", True),
        ("Ｆｉｎｅ, café?", "fine cafe\u0301", True),
        ("Who is it?", "Who was it?", False),
        ("3 * 4", "3 / 4", False),
        ("???", "!!!", False),
        ("???", "???", True),
        ("की?", "का?", False),
    ],
)
def test_a_split_group_ignores_case_spacing_and_punctuation(tmp_path, one, other, equal):
    assert split_groups(tmp_path, [one, "Something else", other]) == [0, 1, 0 if equal else 2]


@pytest.fixture
def split(tmp_path):
    """20 training questions and a file of three to hold out, of which one is among the 20."""
    rows = "".join(f"What is {n}?,{n}\n" for n in range(20))
    training = written(tmp_path / "train.csv", f"question,answer\n{rows}")
    held_out = "question,answer\nwhat is 3,3\nWhat is 50?,50\nWhat is 51?,51\n"
    return {"path": training, "hold_out": written(tmp_path / "test.csv", held_out)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_held_out_questions_are_last_new_and_not_sampled(split, caplog, seed):
    with caplog.at_level("INFO", "llm_figures"):
        questions, left_out = load(**split, limit=5, seed=seed)
    assert questions["hold_out"].tolist() == [False] * 5 + [True] * 2
    assert questions["question"].tolist()[5:] == ["What is 50?", "What is 51?"]
    assert questions["id"].tolist()[5:] == ["2", "3"]
    assert questions["question_id"].tolist() == list(range(7))
    assert left_out[["source", "row", "question", "reason"]].to_numpy().tolist() == [
        ["test.csv", 1, "what is 3", "held out, but among the training questions too"]
    ]
    assert "7 questions, 2 of them held out" in caplog.messages


def test_a_hold_out_file_without_anything_new_is_refused(split):
    with pytest.raises(UserError) as caught:
        load(split["path"], hold_out=split["path"])
    assert str(caught.value) == (
        f"config: dataset.hold_out: {split['path']}: no questions are left; 20 of 20 row(s): "
        "held out, but among the training questions too"
    )


def test_ids_are_unique_within_a_file_but_not_between_files(tmp_path):
    row = "no,question,answer\n{},{}?,me\n"
    one = written(tmp_path / "one.csv", row.format("x", "Who"))
    two = written(tmp_path / "two.csv", row.format("x", "What"))
    questions, _ = load(one, hold_out=two, id="no")
    assert questions["id"].tolist() == ["x", "x"]
    # A row that cannot be used has an id all the same.
    path = written(tmp_path / "three.csv", "no,question,answer\n1,a?,b\nx,c?,d\n1,,\n")
    with pytest.raises(UserError, match="three.csv: duplicate id '1' in rows 1 and 3; ids must be"):
        load(path, id="no")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "question,answer\n", "dataset.path: {}: has no rows"),
        (
            "b.csv",
            "question,answer\nWho?,\nWhat?,\n,x\n",
            "dataset.path: {}: no questions are left; 2 of 3 row(s): no answer",
        ),
        (
            "c.csv",
            "question,reply\nWho?,me\n",
            "dataset.answer: {} has no column 'answer'; it has: question, reply",
        ),
        (
            "d.jsonl",
            '{"question": "a?", "answer": {"value": "b"}}',
            "dataset.path: {}: no questions are left; 1 of 1 row(s): column 'answer' holds an "
            "object; name a field, as in answer.value",
        ),
        (
            "e.jsonl",
            '{"question": ["a?"], "answer": "b"}',
            "dataset.path: {}: no questions are left; 1 of 1 row(s): column 'question' holds a "
            "list, not text or a number",
        ),
    ],
)
def test_a_file_without_questions_is_one_line(tmp_path, name, text, message):
    path = written(tmp_path / name, text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == "config: " + message.format(path)


def test_one_cell_of_another_type_costs_its_row_alone(tmp_path):
    lines = '{"question": "a?", "answer": "b"}\n{"question": "c?", "answer": [["d"]]}\n'
    questions, left_out = load(written(tmp_path / "a.jsonl", lines))
    assert questions["question"].tolist() == ["a?"]
    assert left_out["row"].tolist() == [2]
    assert left_out["reason"].tolist() == ["column 'answer' holds a list, not text or a number"]


def test_a_long_cell_is_read(tmp_path):
    path = written(tmp_path / "a.csv", f"question,answer,context\nWho?,me,{'x' * 200_000}\n")
    assert load(path)[0]["question"].tolist() == ["Who?"]


def test_both_tables_keep_their_types_in_a_file(tmp_path):
    path = written(tmp_path / "mine.csv", "question,ok\nWho?,yes\nWhat?,no\n")
    paths = [str(tmp_path / name) for name in ("questions.parquet", "left_out.parquet")]
    dataset = Dataset(path=path, answer=None, label="ok")
    build_questions.main(*paths, dataset, "")
    questions, left_out = map(read_frame, paths)
    assert questions.dtypes.astype(str).to_dict() == QUESTION_TYPES
    assert questions["label"].tolist() == [True, False]
    assert questions["frame"].isna().all()
    assert [list(aliases) for aliases in questions["aliases"]] == [[], []]
    assert left_out.empty
    assert left_out.dtypes.astype(str).to_dict() == LEFT_OUT_TYPES


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "nul.csv",
            "question,answer\na?,b\nc?\0,d\n",
            "row 2: question: 'c?\\x00' holds a NUL char",
        ),
        # a list in a cell of CSV can spell what the file itself cannot hold
        (
            "list.csv",
            'question,answer\na?,"[""b"", ""\\ud800""]"\n',
            "row 1: answer[2]: '\\ud800' ho",
        ),
        (
            "half.jsonl",
            '{"question": "\\ud800?", "answer": "b"}',
            "line 1: question: '\\ud800?' holds",
        ),
        (
            "half.json",
            '[{"question": "a?", "answer": ["\\udc00"]}]',
            "item 1 of the array: answer[1]: ",
        ),
    ],
)
def test_texts_that_no_file_can_hold_are_named_by_row_and_column(tmp_path, name, text, line):
    path = written(tmp_path / name, text)
    with pytest.raises(UserError) as caught:
        load_questions(Dataset(path=path))
    assert str(caught.value).startswith(f"config: dataset.path: {path}: {line}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("cells", "options", "wrong"),
    [
        (["lead", "tin", ""], {}, [["lead"], ["tin"], []]),
        (["['lead', 'tin']", "zinc", ""], {}, [["lead", "tin"], ["zinc"], []]),
        (["lead; tin", "zinc", ""], {"separator": ";"}, [["lead", "tin"], ["zinc"], []]),
    ],
)
def test_wrong_answers_are_read_as_the_right_ones_are(tmp_path, cells, options, wrong):
    path = tmp_path / "mine.csv"
    pd.DataFrame({"question": [*"abc"], "answer": "iron", "other": cells}).to_csv(path, index=False)
    questions, _ = load(path, wrong="other", **options)
    assert [list(found) for found in questions["wrong_answers"]] == wrong
    assert not questions["question"].str.contains("lead|tin|zinc").any()


def test_a_wrong_answer_that_is_right_or_in_doubt_leaves_its_row_out(tmp_path):
    path = tmp_path / "mine.csv"
    cells = ["iron", "lead", "lead; tin"]
    pd.DataFrame({"question": [*"abc"], "answer": "iron", "wrong": cells}).to_csv(path, index=False)
    questions, left_out = load(path, wrong="wrong")
    assert questions["id"].tolist() == ["2"]
    reasons = left_out["reason"].tolist()
    assert reasons[0] == "a wrong answer is among the right ones"
    assert reasons[1].startswith("wrong is ")
    assert "dataset.separator" in reasons[1]


def test_without_a_column_of_wrong_answers_only_the_elements_have_some():
    facts, _ = load_questions(Dataset())
    assert not any(map(len, facts["wrong_answers"]))
    elements, _ = load_questions(Dataset(name="elements"))
    assert all(map(len, elements["wrong_answers"]))
