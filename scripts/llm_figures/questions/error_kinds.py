"""Kinds of error by several sampled answers to a question, and the entropy of their meanings."""

import numpy as np
import pandas as pd

from llm_figures.questions.resampling_options import PUBLISHED_COUNT, ErrorTaxonomy
from llm_figures.questions.samples import NO_CLUSTER

# {kind: its display name}, in the order in which they are tried.
KINDS = {
    "refuses": "refuses",
    "right_always": "always right",
    "right_mostly": "mostly right",
    "wrong_always": "one wrong answer, never right",
    "wrong_mostly": "one wrong answer, sometimes right",
    "two_competing": "two competing answers",
    "many_never_right": "many answers, never right",
    "many_sometimes_right": "many answers, sometimes right",
    "other": "other",
}


def find_kind(
    count: int,
    abstained: int,
    right: int,
    largest_wrong: int,
    different: int,
    taxonomy: ErrorTaxonomy,
) -> str:
    """The kind of a question, the first of `KINDS` that applies.

    count: samples of the question, of which `abstained` decline and `right` are right.
    largest_wrong: samples with the most frequent wrong answer. different: number of different
        answers, of which all right ones count as one.

    refuses: enough decline. right_always: all are right; right_mostly: enough are. wrong_always and
    wrong_mostly: enough give one wrong answer, without or with any right one. two_competing: the
    right answer and the most frequent wrong one have enough samples each, and about as many.
    many_never_right and many_sometimes_right: there are many different answers, without or with a
    right one.
    """

    def reaches(samples: int, threshold: float) -> bool:
        return samples * PUBLISHED_COUNT >= threshold * count

    if reaches(abstained, taxonomy.refuses):
        return "refuses"
    if reaches(right, taxonomy.consistent):
        return "right_always" if right == count else "right_mostly"
    if reaches(largest_wrong, taxonomy.consistent):
        return "wrong_mostly" if right else "wrong_always"
    apart = abs(right - largest_wrong)
    if (
        min(right, largest_wrong) > 0
        and reaches(min(right, largest_wrong), taxonomy.competing)
        and apart * PUBLISHED_COUNT <= taxonomy.competing_apart * count
    ):
        return "two_competing"
    if different * PUBLISHED_COUNT > taxonomy.many * count:
        return "many_sometimes_right" if right else "many_never_right"
    return "other"


def assign_kinds(samples: pd.DataFrame, taxonomy: ErrorTaxonomy) -> pd.DataFrame:
    """One row per question, from the rows of forward/samples.parquet.

    Columns: question_id; kind, exactly one of `KINDS`; samples, valid, abstained, right: numbers of
    samples; largest_wrong: of those with the most frequent wrong answer; different: number of
    different answers; semantic_entropy, semantic_entropy_weighted: see `measure_entropy`, NaN
    without a cluster.
    """
    rows = []
    for question, own in samples.groupby("question_id", sort=True):
        answered = own["valid"] & ~own["abstained"]
        right = int((answered & own["correct"]).sum())
        wrong = own.loc[answered & ~own["correct"], "cluster"].value_counts()
        counts = {
            "abstained": int(own["abstained"].sum()),
            "right": right,
            "largest_wrong": int(wrong.max()) if len(wrong) else 0,
            "different": len(wrong) + (right > 0),
        }
        by_share, by_probability = measure_entropy(own)
        rows.append(
            {
                "question_id": question,
                "kind": find_kind(len(own), **counts, taxonomy=taxonomy),
                "samples": len(own),
                "valid": int(own["valid"].sum()),
                **counts,
                "semantic_entropy": by_share,
                "semantic_entropy_weighted": by_probability,
            }
        )
    return pd.DataFrame(rows)


def measure_entropy(samples: pd.DataFrame) -> tuple[float, float]:
    """Semantic entropy of one question's samples, in nats, with exact-match clusters.

    The first takes the share of samples in each cluster for its probability (discrete semantic
    entropy, Farquhar et al. 2024, Nature 630). The second takes the probability of its different
    answers, by their tokens, divided by that of all clusters. Samples in no cluster do not count;
    NaN without any.
    """
    own = samples[samples["cluster"] != NO_CLUSTER]
    if own.empty:
        return float("nan"), float("nan")
    shares = own["cluster"].value_counts().to_numpy(float)
    distinct = own.drop_duplicates(["cluster", "answer"])
    logs = distinct["log_probability"].to_numpy(float)
    weights = np.bincount(distinct["cluster"], weights=np.exp(logs - logs.max()))
    return _entropy(shares / shares.sum()), _entropy(weights / weights.sum())


def _entropy(probabilities: np.ndarray) -> float:
    positive = probabilities[probabilities > 0]
    # not −0 where one cluster has everything
    return float(abs(np.sum(positive * np.log(positive))))
