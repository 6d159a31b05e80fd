"""Evaluate the claims about the probe figure."""

from collections.abc import Sequence

from llm_figures.claims.claim import FigureClaim, read_figure_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.claims.probe_claims import check_probe_claims
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.result_folders import name_model
from llm_figures.probe.stored_predictions import StoredPredictions


def main(
    model: str,
    claims: Sequence[FigureClaim],
    answers: str,
    scores: str,
    predictions: list[str],
    output: str,
    seed: int,
) -> None:
    answered = read_frame(answers, ["question_id", "split_group", "correct", "valid"])
    columns = ["layer", "token", "control", "repeat", "fold", "question_id", "score", "inner_auc"]
    verdicts = check_probe_claims(
        model,
        claims,
        read_frame(scores),
        StoredPredictions(predictions, columns),
        answered[answered["valid"]],
        seed,
    )
    log_verdicts(log, verdicts)
    write_frame(verdicts, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            name_model(snakemake.wildcards.model, snakemake.config["run"]),
            read_figure_claims(snakemake.params.claims),
            snakemake.input.answers,
            snakemake.input.scores,
            snakemake.input.predictions,
            snakemake.output.claims,
            snakemake.params.seed,
        )
