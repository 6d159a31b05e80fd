"""The tables of `snakemake paper`."""

import report_files
from drawn_figures import with_nested
from llm_figures.paper.tables import write_probe_table


def lines_of(scores, tokens):
    """All lines, and that of each token."""
    lines = list(write_probe_table(scores, "auc", tokens, "m", ""))
    rows = [line for line in lines if line.startswith(r"\texttt")]
    return " ".join(lines), dict(zip(tokens, rows, strict=True))


def test_a_token_without_a_choice_does_not_show_its_highest_layer_as_the_chosen_one():
    scores, tokens = report_files.probe_scores(), report_files.TOKENS
    scores = scores[scores["metric"] == "auc"]
    caption, rows = lines_of(scores, tokens)
    assert "where it is highest, a selection" in caption
    assert not any("& -- & --" in row for row in rows.values())
    nested = with_nested(scores)
    lacking = (nested["token"] == tokens[-1]) & (nested["metric"] == "nested_auc")
    caption, rows = lines_of(nested[~lacking], tokens)
    assert "chosen for each test set" in caption
    assert "& -- & --" in rows[tokens[-1]]
    assert not any("& -- & --" in rows[token] for token in tokens[:-1])
