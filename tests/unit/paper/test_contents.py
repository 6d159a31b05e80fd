"""Names of macros, and what stops a paper: results of another model or version, equal names."""

import json

import pandas as pd
import pytest

import report_files
from llm_figures.core.errors import UserError
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.paper.contents import build_paper
from llm_figures.paper.latex_text import escape, set_number
from llm_figures.paper.macros import name_macro, name_macros, set_value
from llm_figures.paper.stated_figures import read_stated, select_shown

STATED = {
    "format": 1,
    "model": report_files.MODEL,
    "source": "probe/scores.parquet",
    "shown": {"rows": {"metric": ["auc"]}, "columns": ["layer", "mean"]},
    "caption": "A caption & no number.\n",
    "constants": {},
    "numbers": {},
}


def paper(model=report_files.MODEL, claims=None, **changes):
    return build_paper(
        model,
        {"probe_auc": (STATED, 7.0)},
        report_files.claims() if claims is None else claims,
        report_files.probe_scores(),
        ("auc", [*report_files.TOKENS, "first_answer"]),
        report_files.MANIFEST,
        None,
        **changes,
    )


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("probe_auc", "-1_nested_score_low"), "ProbeAucMinusOneNestedScoreLow"),
        (("claims", "mean_qkv_mean-input-2-weaker_value"), "ClaimsMeanQkvMeanInputTwoWeakerValue"),
        (("module_map", "grey_attn. q"), "ModuleMapGreyAttnQ"),
        (("fig2b", "x10"), "FigTwoBXOneZero"),
        (("run", "not reproduced"), "RunNotReproduced"),
    ],
)
def test_macros_are_named_in_letters_after_what_they_are(parts, name):
    assert name_macro(*parts) == name


def test_two_numbers_of_one_name_are_refused():
    numbers = StatedNumbers()
    for name in ("a_b", "a. b"):
        numbers.add(name, 1)
    with pytest.raises(UserError, match=r"^paper: f: 'a_b' and f: 'a\. b' would both be \\FAB; "):
        name_macros({"f": numbers})


@pytest.mark.parametrize(
    ("printed", "tex"),
    [
        ("0.871", "0.871"),
        ("-0.030", r"\ensuremath{-0.030}"),
        ("−0.03", r"\ensuremath{-0.03}"),
        ("1,023", "1{,}023"),
        ("1.234e-05", r"\ensuremath{1.234\times 10^{-5}}"),
        ("7e−11", r"\ensuremath{7\times 10^{-11}}"),
        ("1e-10", r"\ensuremath{10^{-10}}"),
        ("37%", r"37\%"),
        ("exact_answer_last", r"exact\_answer\_last"),
    ],
)
def test_numbers_are_set_alike_in_text_and_maths(printed, tex):
    assert set_number(printed) == tex


@pytest.mark.parametrize(
    ("value", "form", "tex"),
    [
        (266, lambda seconds: "4 min 26 s", "4~min~26~s"),
        (0.5, lambda epsilon: "5e-1", r"\ensuremath{5\times 10^{-1}}"),
        ("-1", "", "-1"),  # a token is no number
        (None, "", r"\mbox{--}"),
    ],
)
def test_a_number_with_its_unit_stays_on_one_line(value, form, tex):
    numbers = StatedNumbers()
    numbers.add("name", value, form)
    assert set_value(numbers["name"]) == tex


def test_control_characters_are_named_and_lines_joined():
    assert escape("a\n b\t\x07 \u200b c") == r"a b \textbackslash{}x07  c"


def test_tables_hold_every_claim_and_token():
    files = paper()
    claims = report_files.claims()
    assert files["claims.tex"].count(r" & not reproduced \\") == 5
    assert files["claims.tex"].count(escape(report_files.HOSTILE)) == 5
    assert files["claims.tex"].count(r"\begin{table*}") == claims["figure"].nunique()
    long = pd.concat([claims[claims["figure"] == "mean_qkv"]] * 20)
    long["claim"] = [f"claim-{n}" for n in range(len(long))]
    tables = paper(claims=long)["claims.tex"]
    assert tables.count(r"\begin{table*}") > 3
    assert len(set(tables.split(r"\label{")[1:])) == tables.count(r"\begin{table*}")
    probe = files["probe.tex"]
    assert r"\texttt{-1} & 2 & 0.877 & [" in probe
    assert r"\texttt{first\_answer} & -- & -- & --" in probe  # without a score


def test_a_baseline_has_macros_beside_those_of_each_count():
    numbers = json.loads(paper()["numbers.json"])
    # of two claims that could have failed one has references, which 40% satisfy
    assert numbers["ClaimsMeanQkvSatisfiedByReferences"]["text"] == "0.4"
    assert numbers["ClaimsSatisfiedByReferences"]["text"] == "2.0"
    assert numbers["ClaimsMeanQkvSatisfiedByRandomWeights"]["text"] == "0.3"
    assert numbers["ClaimsProbeAucSatisfiedByRandomWeights"]["missing"]


def test_a_paper_without_claims_has_no_table_of_them():
    files = paper(claims=report_files.claims().head(0))
    assert "tabular" not in files["claims.tex"]
    numbers = json.loads(files["numbers.json"])
    assert numbers["ClaimsTotal"]["value"] == 0
    assert numbers["ClaimsSatisfiedByReferences"]["missing"]


def test_a_claim_about_its_whole_interval_says_so_in_its_table():
    claims = report_files.claims()
    claims["test"] = claims["claim"].map({"first": '{"certain": true}'})
    assert paper(claims=claims)["claims.tex"].count(", the whole interval &") == 5
    assert "whole interval" not in paper()["claims.tex"]


def test_figures_keep_their_size_where_they_were_drawn_to_fit():
    assert r"width=\llmwidth" in paper()["figures.tex"]
    assert r"\begin{figure*}" in paper()["figures.tex"]
    fitted = paper(exact=True, across=False, prefix="Tiny")["figures.tex"]
    assert "width=" not in fitted
    assert r"\includegraphics[alt={A caption \& no number.}]{\llmfolderTiny/figures/" in fitted
    assert r"\begin{figure}" in fitted
    assert r"\label{fig:Tiny:probe_auc}" in fitted


def test_results_of_another_model_are_refused():
    with pytest.raises(UserError, match=r"^manifest\.json is of model tiny, not other; "):
        paper("other")
    with pytest.raises(UserError, match=r"^claims\.parquet is of model other, not tiny; "):
        paper(claims=report_files.claims().assign(model="other"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is of another version"),
        (json.dumps(STATED | {"format": 0}), "is of another version"),
        (json.dumps({key: STATED[key] for key in STATED if key != "shown"}), "is of another ver"),
        (json.dumps(STATED | {"model": "other"}), "is of model other, not tiny"),
    ],
)
def test_numbers_of_another_version_or_model_are_refused(text, message):
    with pytest.raises(UserError, match=f"^a/probe_auc.numbers.json {message}"):
        read_stated(text, "a/probe_auc.numbers.json", report_files.MODEL)


def test_a_table_of_an_earlier_version_is_refused():
    table = report_files.probe_scores().drop(columns="mean")
    with pytest.raises(UserError, match=r"^scores\.parquet has no column mean: it is of another"):
        select_shown(table, STATED, "scores.parquet")
