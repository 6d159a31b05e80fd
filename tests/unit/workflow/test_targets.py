"""What is said of a target that nothing makes."""

import logging

import pytest
from snakemake.exceptions import MissingRuleException

from llm_figures.workflow.targets import ExplainTarget

EXPLAIN = ExplainTarget(["figures", "claims", "paper"], ["tiny"], lambda model: ["scale_qkv"])


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (
            "figure",
            "unknown target 'figure'; did you mean figures? allowed: claims, figures, paper",
        ),
        ("xyz", "unknown target 'xyz'; allowed: claims, figures, paper"),
        (
            "results/tiny/figures/qkv.pdf",
            "no rule makes results/tiny/figures/qkv.pdf; figures of tiny: scale_qkv",
        ),
        ("results/big/claims.md", "no rule makes results/big/claims.md; models of this run: tiny"),
        ("results/tiny/a b.md", "no rule makes results/tiny/a b.md"),
        ("other/claims.md", "no rule makes other/claims.md; all results are in results/"),
    ],
)
def test_one_line_names_what_there_is(target, line):
    error = MissingRuleException(target)
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, str(error), (), None)
    record.exception = type(error).__name__
    assert EXPLAIN.filter(record)
    assert record.getMessage() == line
