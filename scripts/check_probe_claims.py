"""The claims about the probe figure, evaluated."""

from llm_figures.claims.page import log_verdicts
from llm_figures.claims.probe_claims import probe_claims
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame


def main(
    model: str,
    claims: list[dict],
    answers: str,
    scores: str,
    predictions: list[str],
    output: str,
    seed: int,
) -> None:
    asked = read_frame(answers, ["question_id", "split_group", "correct", "valid"])
    columns = ["layer", "token", "control", "repeat", "fold", "question_id", "score"]
    told = read_frames(predictions, columns)
    found = probe_claims(model, claims, read_frame(scores), told, asked[asked["valid"]], seed)
    log_verdicts(log, found)
    write_frame(found, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.wildcards.model,
            snakemake.params.claims,
            snakemake.input.answers,
            snakemake.input.scores,
            snakemake.input.predictions,
            snakemake.output.claims,
            snakemake.params.seed,
        )
