"""The block at the end of a run."""

from llm_figures.claims.definitions import NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.evaluation import build_claims_table
from llm_figures.claims.page import render_claims_page
from llm_figures.workflow.run_summary import describe_claims, describe_end


def figure(name, model="tiny"):
    kinds = ("pdf", "svg", "png", "caption.txt", "panels.json")
    return [f"results/{model}/figures/{name}.{kind}" for kind in kinds]


def states(**files):
    return {file: state for state, names in files.items() for file in names}


def test_it_says_what_was_made_what_was_there_and_where():
    files = states(
        made=[*figure("scale_qkv"), *figure("mean_qkv", "other"), "results/tiny/manifest.json"],
        there=[*figure("probe_auc"), *figure("module_map"), "results/_models/figures/all.pdf"],
    )
    pages = ["results/tiny/forward/answers.md"]
    assert [*describe_end(files, pages, [], True, 12.34)] == [
        "Made in 12 s:",
        "  results/tiny/figures/  scale_qkv (pdf, svg, png)",
        "  results/other/figures/  mean_qkv (pdf, svg, png)",
        "  results/tiny/manifest.json",
        "There already:",
        "  results/tiny/figures/  probe_auc, module_map (pdf, svg, png)",
        "  results/_models/figures/  all (pdf)",
        "Read first:",
        "  results/tiny/forward/answers.md",
    ]


def test_a_failed_run_says_what_is_missing_and_which_log_says_why():
    files = states(there=["results/tiny/claims.md"], missing=figure("probe_auc"))
    failed = [("score_probes", "results/tiny/logs/score_probes/scores/0-of-1.log"), ("mine", "")]
    assert [*describe_end(files, ["results/tiny/claims.md"], failed, False, 60)] == [
        "There already:",
        "  results/tiny/claims.md",
        "Not made:",
        "  results/tiny/figures/  probe_auc (pdf, svg, png)",
        "Failed:",
        "  score_probes  results/tiny/logs/score_probes/scores/0-of-1.log",
        "  mine",
        "What was made stays; the same command goes on from there.",
    ]
    many = [*describe_end(files, [], failed * 50, False, 60)]
    assert len(many) < 20
    assert "  and 92 more" in many


def test_figures_and_pages_of_earlier_results_are_named():
    files = states(made=figure("probe_auc"))
    earlier = [*figure("probe_auc"), *figure("scale_qkv"), "results/tiny/claims.parquet"]
    lines = [*describe_end(files, [], [], True, 1, [*earlier, "results/tiny/claims.md"])]
    assert lines[2:] == [
        "Left as they are, from earlier results (`snakemake figures report` brings up to date):",
        "  results/tiny/figures/  scale_qkv (pdf, svg, png)",
        "  results/tiny/claims.md",
    ]


def test_a_run_that_was_stopped_blames_no_job():
    lines = [*describe_end(states(missing=["results/tiny/claims.md"]), [], [], False, 1)]
    assert lines[-1] == "Stopped. What was made stays; the same command goes on from there."


def test_a_target_without_files_has_no_end():
    assert [*describe_end({}, ["results/tiny/claims.md"], [], True, 1)] == []
    failed = [("verify", "results/_models/logs/verify.log")]
    assert [*describe_end({}, [], failed, False, 1)] == [
        "Failed:",
        "  verify  results/_models/logs/verify.log",
    ]


def test_claims_that_are_asked_for_are_counted_as_on_their_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"model": "tiny", "statement": "It is so.", "source": "a", "statistic": "mean",
           "comparison": ">=", "threshold": 0.5, "value": 0.75}  # fmt: skip
    rows = [
        *({"figure": "mean_qkv", "claim": f"c{n}", "verdict": REPRODUCED} for n in range(12)),
        {"figure": "module_map", "claim": "c", "verdict": NOT_REPRODUCED, "note": "It | must."},
    ]
    table = build_claims_table([row | one for one in rows])
    pages = [f"results/{model}/claims.md" for model in ("tiny", "other")]
    for page in (tmp_path / page for page in pages):
        page.parent.mkdir(parents=True)
        page.write_text(render_claims_page(table, page.parent.name), encoding="utf-8")
    assert [*describe_claims(pages, pages[:1])] == [
        "Claims: tiny",
        "  12 of 13 claims, not held against references, are reproduced.",
        "  figure      reproduced  not reproduced  not applicable  decided by construction"
        "  random data  random weights",
        "  mean_qkv            12               0               0                        0"
        "            –               –",
        "  module_map           0               1               0                        0"
        "            –               –",
    ]
    assert [*describe_claims(pages, ["results/tiny/claims/sink_map.md"])] == []
    (tmp_path / pages[0]).unlink()
    assert [*describe_claims(pages, pages[:1])] == []
