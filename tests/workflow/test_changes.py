"""Nothing stale and nothing too much: what a run would do after an edit, job by job."""

import os
import shutil

import pytest

import tiny

pytestmark = pytest.mark.workflow

# The manifest holds the whole config and lists every file: it is written again with any of them.
MANIFEST = {"write_manifest": 1}
CLAIMS = {"collect_claims": 1, **MANIFEST}
ONE_MAP = {"score_attention": 1, "check_attention_claims": 1, "render_figure": 1, **CLAIMS}
MAPS = {**ONE_MAP, "score_attention": 3, "check_attention_claims": 3, "render_figure": 3}
SCORES = {
    "collect_probe_scores": 1,
    "render_figure": 2,
    "check_probe_claims": 1,
    **CLAIMS,
}
FITS = {"score_probes": 1, **SCORES}
JUDGED = {"report_answers": 1, "extract_hidden_states": 1, "ask_p_true": 1, **FITS}
ANSWERED = {"generate_answers": 1, "judge_answers": 1, **JUDGED}
MODULES = {
    "measure_modules": 1,
    "score_modules": 1,
    "check_module_claims": 1,
    "render_figure": 1,
    **CLAIMS,
}
# Of the texts of the attention maps and of the module map.
TEXTS = {"extract_attention_states": 1, **MAPS, **MODULES, "render_figure": 4}
DRAWN = {
    "render_figure": 6,
    **MANIFEST,
}
ALL = {
    "prepare_model": 1,
    "extract_attention_states": 1,
    **MAPS,
    "build_questions": 1,
    **ANSWERED,
    **MODULES,
    "render_figure": 6,
}


def test_a_repeat_has_nothing_to_do(made):
    assert made.planned() == {}


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"style__font_size": 10}, DRAWN),
        ({"figures__probe_auc__palette": "Greens"}, {"render_figure": 1, **MANIFEST}),
        ({"figures__probe_auc__highlight": None}, {"render_figure": 1, **MANIFEST}),
        ({"figures__scale_qkv__epsilon": [0.5, 0.1]}, ONE_MAP),
        ({"figures__scale_qkv__operation": "mean"}, ONE_MAP),
        ({"figures__mean_qkv__layer": 1}, ONE_MAP),
        ({"figures__mean_qkv__scope": "model"}, {"extract_intervened_states": 1, **ONE_MAP}),
        ({"figures__mean_qkv__stage": "before_rotary"}, ONE_MAP),
        ({"inputs": tiny.TEXTS}, TEXTS),
        # braces are text, not wildcards of Snakemake's
        ({"inputs": ["a {set} {}"] * 3}, TEXTS),
        ({"prompt__preamble": "A {set}: {}\n\n"}, {"build_questions": 1, **ANSWERED}),
        (
            {"exact_answer__method": "regex", "exact_answer__pattern": r"\d{2}"},
            {"judge_answers": 1, **JUDGED},
        ),
        ({"figures__module_map__texts": tiny.TEXTS}, MODULES),
        ({"probe__C": 0.1}, FITS),
        ({"strict_versions": True}, {}),
        ({"probe__site": "mlp"}, {"extract_hidden_states": 1, **FITS}),
        ({"states_dtype": "float16"}, {"extract_hidden_states": 1, **FITS}),
        ({"probe__p_true": None}, SCORES),
        ({"probe__shuffles": 5}, SCORES),
        ({"probe__p_true__if_true": " yes"}, {"ask_p_true": 1, **SCORES}),
        ({"probe__p_true__variants": {"a": {"if_true": " yes"}}}, {"ask_p_true": 1, **SCORES}),
        ({"exact_answer__method": "line"}, {"judge_answers": 1, **JUDGED}),
        ({"exact_answer__method": "model"}, {"quote_answers": 1, "judge_answers": 1, **JUDGED}),
        ({"judge__method": "exact"}, {"judge_answers": 1, **JUDGED}),
        ({"judge__method": "model"}, {"ask_judge": 1, "judge_answers": 1, **JUDGED}),
        ({"judge__if_right": "yes"}, MANIFEST),
        ({"prompt__user": "{question}?"}, MANIFEST),
        ({"prompt__max_new_tokens": 13}, ANSWERED),
        ({"dataset__limit": 100}, {"build_questions": 1, **ANSWERED}),
        ({"batch_size": 7}, MANIFEST),
        ({"choices__palette": "Greens"}, MANIFEST),
        ({"claims__fail_on": ["mean-causal"]}, MANIFEST),
    ],
    ids=str,
)
def test_a_changed_option_runs_what_it_changes_and_nothing_else(project, changes, jobs):
    project.change(**changes)
    assert project.planned() == jobs


LIBRARY = "scripts/llm_figures"


DEFAULT = {**MAPS, "check_probe_claims": 1, "check_module_claims": 1}


@pytest.mark.parametrize(
    ("file", "before", "after", "jobs"),
    [
        # a caption
        (f"{LIBRARY}/attention/figure.py", '"averaged over its heads"', '"the mean of its heads"',
         {"render_figure": 3, **MANIFEST}),
        # a script
        ("scripts/score_modules.py", None, "x = 1\n",
         {key: n for key, n in MODULES.items() if key != "measure_modules"}),
        # a helper of one stage
        (f"{LIBRARY}/probe/newton.py", None, "x = 1\n", FITS),
        # a helper of all
        (f"{LIBRARY}/core/errors.py", None, "x = 1\n", ALL),
        # what changes nothing
        (f"{LIBRARY}/core/errors.py", None, "# a comment\n", {}),
        (f"{LIBRARY}/core/errors.py", '"""', '"""More. ', {}),
        ("workflow/rules/plotting.smk", None, "# a comment\n", {}),
        # a default in a class of options: what reads the class runs again
        (f"{LIBRARY}/attention/options.py", '"coolwarm"', '"vlag"', DEFAULT),
        ("workflow/report/report.css", None, "/* a comment */\n", {}),
        # the default of an option that is unset here, and of one that is set
        ("config/config.yaml", "max_new_tokens: 16", "max_new_tokens: 17", MANIFEST),
        ("config/config.yaml", "max_new_tokens: 32", "max_new_tokens: 33", {}),
    ],
    ids=str,
)  # fmt: skip
def test_an_edited_file_runs_what_depends_on_it_and_nothing_else(
    project, file, before, after, jobs
):
    path = project.own_code() / file
    text = path.read_text()
    assert before is None or before in text
    path.write_text(text + after if before is None else text.replace(before, after, 1))
    assert project.planned() == jobs


def test_the_reason_names_the_file_that_was_edited(project):
    path = project.own_code() / LIBRARY / "probe/newton.py"
    path.write_text(path.read_text() + "x = 1\n")
    _, output = project.run("--dry-run")
    assert "llm_figures/probe/newton.py" in output
    assert "llm_figures/core/errors.py" not in output


def test_touched_files_run_nothing(project):
    code = project.own_code()
    # The oldest results become the newest files, in an order that no run would give.
    files = [*code.rglob("*"), *sorted(project.folder.glob("results/**/*"), reverse=True)]
    for path in [*files, project.folder / "mine.jsonl", *project.folder.glob("tiny-model/*.json")]:
        if path.is_file():
            os.utime(path)
    assert project.planned() == {}


def test_a_clone_that_moved_runs_nothing(project, tmp_path):
    project.own_code()
    deep = tmp_path / "a" / "b c" / "d"
    deep.parent.mkdir(parents=True)
    shutil.copytree(project.folder, deep)  # with new times
    project.root = deep / "code"
    project.folder = deep
    assert project.planned() == {}


def test_an_edit_that_was_taken_back_runs_nothing(project):
    project.change(figures__scale_qkv__epsilon=[0.5, 0.1])
    assert project.planned() != {}
    project.change(figures__scale_qkv__epsilon=[0.5, 1e-3, 1e-10])
    assert project.planned() == {}
