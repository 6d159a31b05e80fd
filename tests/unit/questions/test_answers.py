import numpy as np
import pandas as pd
import pytest

import judge_answers as judge_answers_script
import judge_samples as judge_samples_script
from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.questions.answers import check_labels, judge_answers
from llm_figures.questions.answers_report import render_answers_report
from llm_figures.questions.options import ExactAnswer, Judge

SPANS = ["valid", "problem", "span_start", "span_end", "exact_answer"]


@pytest.fixture
def questions():
    return pd.DataFrame(
        {
            "question_id": [0, 1, 2],
            "question": ["a", "b", "c"],
            "aliases": [["Lima"], ["Lima"], ["Lima"]],
            "group": ["g"] * 3,
            "frame": ["It is", "It is", None],
        }
    )


@pytest.fixture
def generations():
    return pd.DataFrame(
        {"question_id": [2, 0, 1], "answer": ["I say Lima. Cusco.", "It is Lima.", "Lima it is."]}
    )


def judge(questions, generations, quotes=None, **options):
    return judge_answers(questions, generations, ExactAnswer(**options), Judge(), quotes)


def test_judging_keeps_every_question_and_marks_valid_answers(questions, generations):
    judged = judge(questions, generations)
    assert judged["question_id"].tolist() == [0, 1, 2]
    assert judged["valid"].tolist() == [True, False, True]
    assert judged["correct"].tolist() == [True, False, True]
    assert judged["exact_answer"].tolist() == ["Lima", "", "I say Lima"]
    assert judged["span_start"].tolist() == [6, -1, 0]
    assert judged["span_end"].tolist() == [10, -1, 10]
    assert judged["problem"].tolist() == ["", "the answer does not begin with its frame", ""]
    assert judged["valid"].dtype == judged["correct"].dtype == bool


def test_a_question_without_an_answer_is_named(questions, generations):
    with pytest.raises(UserError, match="none for 1 of 3 questions, for example question_id 0"):
        judge(questions, generations[generations["question_id"] != 0])


@pytest.mark.parametrize("method", ["auto", "frame", "sentence", "line", "regex", "model"])
def test_spans_do_not_depend_on_the_gold_answer(questions, generations, method):
    quotes = pd.DataFrame({"question_id": [1, 2, 0], "quote": ["Lima", "Cusco", "lima"]})
    tables = [
        judge(
            questions.assign(aliases=[[alias]] * 3, label=label),
            generations,
            quotes,
            method=method,
            pattern="Lima|Cusco",
        )
        for alias in ("Lima", "Cusco", "nothing like it")
        for label in ([None] * 3, [True] * 3, [False, True, None])
    ]
    assert tables[0]["valid"].any()
    assert len({tuple(judged["correct"]) for judged in tables}) > 1
    for judged in tables[1:]:
        pd.testing.assert_frame_equal(judged[SPANS], tables[0][SPANS])


def test_the_quote_of_each_question_marks_its_own_answer(questions, generations):
    quotes = pd.DataFrame({"question_id": [2, 0], "quote": ["Cusco.", None]})
    judged = judge(questions, generations, quotes, method="model")
    assert judged["exact_answer"].tolist() == ["", "", "Cusco"]
    assert judged["problem"].tolist() == ["the model quoted nothing"] * 2 + [""]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"exact_answer.pattern: '\(' is not a regular"),
        (None, "pattern: method regex needs one"),
    ],
)
def test_a_bad_pattern_is_named(questions, generations, pattern, message):
    with pytest.raises(UserError, match=message):
        judge(questions, generations, method="regex", pattern=pattern)


@pytest.mark.parametrize("missing", [None, pd.NA, float("nan")])
def test_a_ready_made_label_replaces_the_judgement_of_valid_answers(
    questions, generations, missing
):
    def correct(label):
        return judge(questions.assign(label=label), generations)["correct"].tolist()

    assert correct([False, True, missing]) == [False, False, True]
    assert correct([missing, missing, False]) == [True, False, False]
    assert correct(pd.array([False, True, None], "boolean")) == [False, False, True]


def test_a_label_needs_no_right_answer(questions, generations):
    questions = questions.assign(aliases=[[], [], []], label=[True, True, False])
    assert judge(questions, generations)["correct"].tolist() == [True, False, False]


def test_log_probabilities_are_means_over_the_answer_and_over_the_exact_answer(questions):
    generations = pd.DataFrame(
        {
            "question_id": [0, 1, 2],
            "answer": ["It is Lima.", "Lima it is.", ""],
            # It| is| Li|(no character)|ma|.
            "token_starts": [[0, 2, 5, 8, 8, 10], [0, 4], []],
            "token_ends": [[2, 5, 8, 8, 10, 11], [4, 11], []],
            "token_log_probabilities": [[-1.0, -2, -3, -90, -5, -7], [-1.0, -2], []],
            "problem": ["", "", "the prompt is too long"],
        }
    )
    judged = judge(questions, generations)
    assert judged["answer_log_probability"].tolist()[:2] == pytest.approx([-108 / 6, -1.5])
    assert judged["exact_answer_log_probability"][0] == pytest.approx((-3 - 5) / 2)
    assert judged["exact_answer_log_probability"][1:].isna().all()
    assert np.isnan(judged["answer_log_probability"][2])
    assert judged["problem"].tolist() == [
        "",
        "the answer does not begin with its frame",
        "the prompt is too long",
    ]


def test_without_log_probabilities_the_means_are_missing(questions, generations):
    judged = judge(questions, generations)
    assert judged[["answer_log_probability", "exact_answer_log_probability"]].isna().all(axis=None)


def test_frames_from_parquet_give_the_same(questions, generations, tmp_path):
    questions["label"] = [None, None, False]
    generations["token_starts"] = [[0], [0, 6], [0]]
    generations["token_ends"] = [[18], [6, 11], [11]]
    generations["token_log_probabilities"] = [[-1.0], [-1.0, -2.0], [-3.0]]
    generations["problem"] = ["", "", "too long"]
    write_frame(questions, tmp_path / "questions.parquet")
    write_frame(generations, tmp_path / "generations.parquet")
    computed = ["correct", "answer_log_probability", "exact_answer_log_probability", *SPANS]
    pd.testing.assert_frame_equal(
        judge(
            read_frame(tmp_path / "questions.parquet"), read_frame(tmp_path / "generations.parquet")
        )[computed],
        judge(questions, generations)[computed],
        check_dtype=False,
    )


NONE_LEFT_OUT = pd.DataFrame(columns=["source", "row", "id", "question", "reason"])


def answers_table(right, wrong, without, **columns):
    """Judged answers in this order, numbered from 0: "It is r0.", "It is w1.", "x2"."""
    kinds = "r" * right + "w" * wrong + "x" * without
    valid = [kind != "x" for kind in kinds]
    names = [f"{kind}{index}" for index, kind in enumerate(kinds)]
    table = {
        "question_id": range(len(kinds)),
        "question": [f"Who is {name}?" for name in names],
        "aliases": [[f"gold {name}"] for name in names],
        "group": ["g"] * len(kinds),
        "answer": [f"It is {name}." if v else name for name, v in zip(names, valid, strict=True)],
        "valid": valid,
        "span_start": [6 if v else -1 for v in valid],
        "span_end": [6 + len(name) if v else -1 for name, v in zip(names, valid, strict=True)],
        "exact_answer": [name if v else "" for name, v in zip(names, valid, strict=True)],
        "correct": [kind == "r" for kind in kinds],
        "problem": ["" if v else "no frame" for v in valid],
        "off_option": False,
        "abstained": False,
        "cut": False,
        "judged_by": ["contains" if v else "" for v in valid],
        "doubt": "",
    }
    return pd.DataFrame({**table, **columns})


def section(report, title):
    return report.split(f"\n## {title}\n")[1].split("\n## ")[0].strip()


def test_the_report_counts():
    groups = ["b", "b", "b", "a", "a", None, " "]
    answers = answers_table(2, 2, 3, group=groups, label=[None, True, False, None] + [None] * 3)
    answers.loc[6, "problem"] = "empty"
    left_out = pd.DataFrame(
        {
            "source": ["mine.csv"] * 3,
            "row": [12, 2, 7],
            "id": ["q|12", None, "q7"],
            "question": ["Who?", None, "Which? " + 100 * "long "],
            "reason": ["no answer", "no question", "no answer"],
        }
    )
    report = render_answers_report(answers, left_out)
    assert section(report, "Totals").splitlines() == [
        "- questions: 7",
        "- rows of the dataset left out: 3",
        "- valid answers (with an exact answer): 4 (57.1%)",
        "- right answers: 2 (50.0% of valid answers)",
        "- answers that abstain: 0",
        "- answers cut at max_new_tokens: 0",
        "- judgements in doubt: 0",
        "- answers judged by the dataset's label: 2",
    ]
    assert section(report, "Groups").splitlines()[2:] == [
        "| (none) | 2 | 0 | 0 | 0 | 0 | 2 | 0 | – | 0 |",
        "| a | 2 | 0 | 1 | 0 | 0 | 1 | 0 | 0.0% | 0 |",
        "| b | 3 | 2 | 1 | 0 | 0 | 0 | 0 | 66.7% | 0 |",
        "| all | 7 | 2 | 2 | 0 | 0 | 3 | 0 | 50.0% | 0 |",
    ]
    assert section(report, "Answers left out").splitlines()[2:] == [
        "| no frame | 2 |",
        "| empty | 1 |",
    ]
    lines = section(report, "Rows left out").splitlines()
    assert lines[2:4] == ["| no answer | 2 |", "| no question | 1 |"]
    assert lines[5] == "The first 3 of 3:"
    assert lines[9] == "| mine.csv | 2 |  |  | no question |"
    assert lines[10].startswith("| mine.csv | 7 | q7 | Which? long ")
    assert len(lines[10]) < 350
    assert lines[11] == r"| mine.csv | 12 | q\|12 | Who? | no answer |"


def test_held_out_questions_are_counted_separately():
    answers = answers_table(2, 1, 1, hold_out=[True, False, None, True])
    report = render_answers_report(answers, NONE_LEFT_OUT)
    assert "- questions: 4, 2 of them held out" in report
    training, held_out = section(report, "Groups").split("Held-out questions")
    assert "| all | 2 | 1 | 1 | 0 | 0 | 0 | 0 | 50.0% | 0 |" in training
    assert "| all | 2 | 1 | 0 | 0 | 0 | 1 | 0 | 100.0% | 0 |" in held_out
    assert section(report, "Rows left out") == "None."


def test_a_report_without_any_valid_answer():
    report = render_answers_report(answers_table(0, 0, 2), NONE_LEFT_OUT)
    assert "- right answers: 0 (– of valid answers)" in report
    assert report.count("### Question") == 2
    assert "left out\n\n| reason | answers |" in report


@pytest.mark.parametrize(
    ("right", "wrong", "without", "expected"),
    [(20, 20, 20, (5, 5, 5)), (2, 20, 1, (2, 8, 1)), (20, 3, 0, (7, 3, 0)), (2, 1, 0, (2, 1, 0))],
)
def test_examples_are_half_right_and_half_wrong_where_possible(right, wrong, without, expected):
    examples = section(
        render_answers_report(answers_table(right, wrong, without), NONE_LEFT_OUT), "Examples"
    )
    counts = (
        examples.count(": right\n"),
        examples.count(": wrong\n"),
        examples.count(": left out: no frame\n"),
    )
    assert counts == expected
    # right and wrong answers are marked alike
    assert examples.count("- answer: It is **⟦") == right_and_wrong(counts)
    assert examples.count("⟧**.\n") == right_and_wrong(counts)


def right_and_wrong(counts):
    return counts[0] + counts[1]


def test_the_report_depends_on_the_seed_and_not_on_the_order_of_rows():
    answers = answers_table(20, 20, 20)
    left_out = pd.DataFrame(
        {
            "source": "mine.csv",
            "row": range(20),
            "id": None,
            "question": "Who?",
            "reason": ["no answer", "no question"] * 10,
        }
    )
    report = render_answers_report(answers, left_out, seed=3)
    shuffled = render_answers_report(
        answers.sample(frac=1, random_state=1), left_out.sample(frac=1, random_state=1), seed=3
    )
    assert shuffled == report
    assert render_answers_report(answers, left_out, seed=4) != report
    assert "The first 10 of 20:" in report


def test_an_example_shows_what_was_marked_whatever_the_text():
    answers = answers_table(1, 0, 2)
    answer = "a|b\r\n**c** <i>`x_y`</i> & [l](u) \\ $z$\n# end"
    start = answer.index("`")
    answers = answers.assign(
        answer=[answer, "*", ""],
        span_start=[start, -1, -1],
        span_end=[start + 5, -1, -1],
        group="a|b",
        question="Who\nis *it*?",
        aliases=[["a|1", "2", "3", "4", "5", "6"], [], None],
    )
    report = render_answers_report(answers, NONE_LEFT_OUT)
    assert (
        r"- answer: a\|b↵\*\*c\*\* &lt;i&gt;**⟦\`x\_y\`⟧**&lt;/i&gt; &amp; \[l\](u) \\ \$z\$↵\# end"
    ) in report.splitlines()
    assert r"- question: Who↵is \*it\*?" in report
    assert "- gold answers: a\\|1; 2; 3; 4; 5; …\n" in report
    assert "- answer: \\*\n- gold answers: (none)" in report
    assert "- answer: (empty)\n- gold answers: (none)" in report
    assert r"| a\|b | 3 | 1 | 0 | 0 | 0 | 2 | 0 | 100.0% | 0 |" in report


def labelled(correct):
    """Valid answers, right where `correct`."""
    columns = {"question_id": range(len(correct)), "answer": "x", "correct": correct}
    return pd.DataFrame(columns | {"valid": True, "hold_out": False})


@pytest.mark.parametrize("right", [0, 19, 81, 100])
def test_fewer_than_twenty_of_either_label_is_one_clear_line(right):
    answers = labelled(np.arange(100) < right)
    with pytest.raises(UserError, match=rf"{right} right and {100 - right} wrong .* at least 20"):
        check_labels(answers, "answers.md")
    held_out = pd.concat([labelled(np.arange(100) % 2 == 0), answers.assign(hold_out=True)])
    with pytest.raises(UserError, match=rf"{right} right .* among the held-out questions"):
        check_labels(held_out, "answers.md")


def judge_all(answers, aliases=("Lima",), question="Which?", judging=None, replies=None, **columns):
    """Judged answers to questions that differ in nothing but these columns."""
    count = len(answers)
    questions = pd.DataFrame(
        {
            "question_id": range(count),
            "question": question,
            "aliases": [list(aliases)] * count,
            "label": columns.pop("label", None),
        }
    )
    generations = pd.DataFrame({"question_id": range(count), "answer": answers, **columns})
    return judge_answers(questions, generations, ExactAnswer(), judging or Judge(), replies=replies)


def test_empty_answers_are_named_and_advised_on():
    judged = judge_all(["", " \n", "Lima", "\n"]).assign(hold_out=False)
    assert judged["valid"].tolist() == [False, False, True, False]
    with pytest.raises(UserError) as caught:
        check_labels(judged, "answers.md")
    message = str(caught.value)
    assert "First answers: (empty); (empty); 'Lima'. Left out: 3: the answer is empty. " in message
    assert "the model ends its answers at once: change prompt.template or prompt.stop" in message
    assert "\n" not in message


@pytest.mark.parametrize("answers", [["", ""], ["Lima", "Quito"]])
def test_shares_of_no_answer_are_not_logged(tmp_path, caplog, monkeypatch, answers):
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("INFO", log.name)
    frame = pd.DataFrame({"question_id": [0, 1], "question": "Which?", "group": "a",
                          "aliases": [["Lima"]] * 2})  # fmt: skip
    write_frame(frame, tmp_path / "questions.parquet")
    tokens = {"answer_ids": [1], "token_starts": [0], "token_ends": [1]}
    said = pd.DataFrame({"question_id": [0, 1], "answer": answers, "cut": False, "problem": "",
                         **{name: [value] * 2 for name, value in tokens.items()},
                         "token_log_probabilities": [[-1.0]] * 2, "sample": 0})  # fmt: skip
    write_frame(said, tmp_path / "said.parquet")
    questions, output = tmp_path / "questions.parquet", tmp_path / "out.parquet"
    generations, options = [tmp_path / "said.parquet"], (ExactAnswer(), Judge())
    judge_answers_script.main(questions, generations, [], [], output, *options)
    right = "; 50.0% of these are right" if answers[0] else ""
    count = "2 of 2 answers (100.0%)" if answers[0] else "0 of 2 answers (0.0%)"
    assert f"{count} can be probed{right}" in caplog.messages
    judge_samples_script.main(questions, generations, output, *options)
    share = "50.0% of 2" if answers[0] else "none of 0"
    assert f"2 samples of 2 questions; {share} valid ones are right" in caplog.messages
    assert "nan" not in caplog.text


def test_abstentions_are_left_out_or_wrong():
    answers = ["Lima.", "I don't know.", "Quito.", "I'm not sure, but I think it is Lima."]
    judged = judge_all(answers)
    assert judged["abstained"].tolist() == [False, True, False, False]
    assert judged["valid"].tolist() == [True, False, True, True]
    assert judged["correct"].tolist() == [True, False, False, True]
    assert judged["problem"].tolist() == ["", "the answer abstains", "", ""]
    judged = judge_all(answers, judging=Judge(abstentions="wrong"))
    assert judged["valid"].all()
    assert judged["correct"].tolist() == [True, False, False, True]
    assert judged["judged_by"].tolist()[1] == "abstention"


def test_a_label_stands_for_an_abstention_too():
    judged = judge_all(["I don't know."], label=[True])
    assert judged[["valid", "correct", "abstained"]].to_numpy().all()
    assert judged["judged_by"].tolist() == ["label"]


def test_an_abstention_without_an_exact_answer_is_one():
    questions = pd.DataFrame(
        {"question_id": [0], "question": "Which?", "aliases": [["Lima"]], "frame": ["It is"]}
    )
    generations = pd.DataFrame({"question_id": [0], "answer": ["I have no idea."]})
    judged = judge_answers(questions, generations, ExactAnswer(), Judge())
    assert judged["problem"].tolist() == ["the answer abstains"]


def test_answers_that_were_cut_are_marked_and_left_out_on_request():
    answers = ["Lima", "Lima. It is", "Quito."]
    cut = [True, True, False]
    judged = judge_all(answers, cut=cut)
    assert judged["cut"].tolist() == cut
    assert judged["valid"].all()
    # an exact answer that ended before the cut is whole
    assert judged["doubt"].tolist() == ["the answer was cut at max_new_tokens", "", ""]
    judged = judge_all(answers, cut=cut, judging=Judge(cut="leave_out"))
    assert judged["valid"].tolist() == [False, False, True]
    assert judged["problem"].tolist()[0] == "the answer was cut at max_new_tokens"


def test_a_gold_answer_that_no_answer_could_match_leaves_its_question_out():
    judged = judge_all(["72", "Lima"], aliases=["He sold 48 in May. In all he sold 72."])
    assert judged["problem"].tolist() == ["no answer could match its right answers"] * 2
    judged = judge_all(["72", "Lima"], judging=Judge(method="numeric"))
    assert judged["problem"].tolist() == ["no answer could match its right answers"] * 2
    with pytest.raises(
        UserError,
        match="Left out: 2: no answer could match its right answers. See answers.md; check "
        "dataset.answer, or choose another judge.method",
    ):
        check_labels(judged.assign(hold_out=False), "answers.md")


def test_the_rule_and_the_doubt_of_a_judgement():
    judged = judge_all(
        ["It is Lima.", "It is not Lima.", "It is Qito. No, Lima."], ["Lima", "Quito"]
    )
    assert judged["judged_by"].tolist() == ["contains", "negation", "contains"]
    assert judged["doubt"].tolist() == [
        "",
        "a gold answer is denied",
        "the gold answer occurs elsewhere in the answer",
    ]


@pytest.mark.parametrize(
    ("reply", "valid", "correct"),
    [
        ("right", True, True),
        (" Right.", True, True),
        ('"wrong", because', True, False),
        ("rightly so", False, False),
        ("I think it is right", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_a_judging_model_must_say_one_of_two_words(reply, valid, correct):
    replies = pd.DataFrame({"question_id": [0], "reply": [reply]})
    judged = judge_all(["Lima."], judging=Judge(method="model"), replies=replies)
    assert judged[["valid", "correct"]].to_numpy().tolist() == [[valid, correct]]
    assert judged["judged_by"].tolist() == ["model" if valid else ""]
    if not valid:
        assert judged["problem"].tolist() == ["the judge says neither right nor wrong"]


def test_choices_come_from_the_question():
    judged = judge_all(["B. Quito", "Lima"], ["B", "Quito"], choices=[["Lima", "Quito"]] * 2)
    assert judged["correct"].tolist() == [True, False]


def test_the_least_certain_judgements_come_first():
    answers = answers_table(3, 12, 1)
    answers.loc[[0, 4], "doubt"] = "equal by a rule"
    answers.loc[7, "doubt"] = "says both yes and no"
    report = render_answers_report(answers, NONE_LEFT_OUT)
    assert "- judgements in doubt: 3" in report
    shown = section(report, "Least certain judgements")
    found = [line.split()[2].rstrip(":") for line in shown.splitlines() if "### Question" in line]
    assert found == ["7", "0", "4"]
    assert "| equal by a rule | 2 |" in shown
    assert "- judged by: contains; in doubt: says both yes and no" in shown
    assert (
        report.index("## Least certain") < report.index("## Groups") < report.index("## Examples")
    )


def test_the_report_says_what_became_of_every_answer():
    answers = answers_table(2, 1, 3)
    answers.loc[3, ["problem", "abstained"]] = ["the answer abstains", True]
    answers.loc[4, ["problem", "cut"]] = ["the answer was cut at max_new_tokens", True]
    answers.loc[0, "cut"] = True
    report = render_answers_report(answers, NONE_LEFT_OUT)
    header, _, row, _ = section(report, "Groups").splitlines()
    assert header == (
        "| group | questions | right | wrong | abstained | cut | no exact answer | not judged "
        "| right % of valid | in doubt |"
    )
    assert row == "| g | 6 | 2 | 1 | 1 | 1 | 1 | 0 | 66.7% | 0 |"
    assert "- answers that abstain: 1, 1 of them left out" in report
    assert "- answers cut at max_new_tokens: 2, 1 of them left out" in report
    assert section(report, "Judgements").splitlines()[2:] == ["| contains | 2 | 1 |"]


def test_the_report_shows_questions_that_ask_nearly_the_same():
    questions = ["What is the capital city of France?", "Which city is the capital of France?"]
    answers = answers_table(1, 1, 0, question=questions, split_group=[0, 1])
    shown = section(
        render_answers_report(answers, NONE_LEFT_OUT), "Questions that ask nearly the same"
    )
    assert shown.startswith("Pairs with nearly the same words: 1.")
    assert shown.endswith(f"| {questions[0]} | {questions[1]} |")
    answers["split_group"] = 0
    report = render_answers_report(answers, NONE_LEFT_OUT)
    assert section(report, "Questions that ask nearly the same") == "None."


OFF_OPTION = "the answer names none of the options"


@pytest.mark.parametrize(
    ("aliases", "options"),
    [
        (["Lima"], {"wrong_answers": ["Quito"]}),
        (["A", "Lima"], {"choices": ["Lima", "Quito"]}),
    ],
)
def test_answers_that_name_no_option_are_left_out_or_wrong(aliases, options):
    answers = ["Lima.", "Quito.", "Bogota.", "I don't know.", "Lima or Quito."]
    columns = {name: [value] * len(answers) for name, value in options.items()}
    judged = judge_all(answers, aliases, **columns)
    assert judged["off_option"].tolist() == [False, False, True, False, False]
    assert judged["problem"].tolist() == ["", "", OFF_OPTION, "the answer abstains", ""]
    assert judged["correct"].tolist() == [True, False, False, False, False]
    assert judged["judged_by"].tolist()[2] == ""
    judged = judge_all(answers, aliases, judging=Judge(off_options="wrong"), **columns)
    assert judged["off_option"].tolist() == [False, False, True, False, False]
    assert judged["valid"].tolist() == [True, True, True, False, True]
    assert judged["correct"].tolist() == [True, False, False, False, False]


def test_without_known_options_no_answer_is_off_them():
    judged = judge_all(["Bogota."], wrong_answers=[[]], choices=[[]])
    assert judged[["valid", "off_option"]].to_numpy().tolist() == [[True, False]]
    assert not judge_all(["Bogota."])["off_option"].any()


def test_a_label_stands_for_an_answer_that_names_no_option_too():
    judged = judge_all(["Bogota."], wrong_answers=[["Quito"]], label=[False])
    assert judged[["valid", "off_option"]].to_numpy().tolist() == [[True, False]]


def test_too_few_answers_that_name_an_option_are_one_clear_line():
    judged = judge_all(["Bogota."] * 3 + ["Lima."], wrong_answers=[["Quito"]] * 4)
    with pytest.raises(
        UserError,
        match=f"Left out: 3: {OFF_OPTION}. See answers.md; change prompt so that answers name an "
        "option, or set judge.off_options: wrong",
    ):
        check_labels(judged.assign(hold_out=False), "answers.md")


def test_the_report_counts_answers_that_name_no_option():
    answers = answers_table(2, 2, 2)
    answers.loc[4, ["problem", "off_option"]] = [OFF_OPTION, True]
    answers.loc[3, "off_option"] = True
    report = render_answers_report(answers, NONE_LEFT_OUT)
    assert "- answers that name no option: 2, 1 of them left out" in report
    header, _, row, _ = section(report, "Groups").splitlines()
    assert header.startswith("| group | questions | right | wrong | no option | abstained | cut |")
    assert row == "| g | 6 | 2 | 2 | 1 | 0 | 0 | 1 | 0 | 50.0% | 0 |"
    assert "no option" not in render_answers_report(answers_table(2, 2, 2), NONE_LEFT_OUT)
