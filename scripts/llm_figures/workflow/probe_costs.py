"""Costs of jobs that fit probes, and of those that read their predictions."""

import math
from dataclasses import replace

from llm_figures.probe.protocol import BATCH, EPOCHS, HIDDEN_UNITS, STEPS
from llm_figures.probe.token_positions import NAMED_TOKENS
from llm_figures.workflow.pass_costs import (
    STORAGE,
    Cost,
    Job,
    ask_questions,
    hidden_values,
    module_values,
)

PROBE_RATE = 25e9  # operations, a core: products and Cholesky factors of a few hundred examples
PREDICTION_RATE = 80e3  # predictions that are bootstrapped
FIT = 3e-3  # a fit's small steps
MEMORY_RATE = 1e9  # bytes of features, a core, read for sums
PROBE_PROCESS = 300e6  # NumPy and pandas
MORE_EXAMPLES = 1.5  # as in probe/newton.py, which imports more than the Snakefile should
FACTORS = 3  # Cholesky factors of a fit
DIFFERENT = 1 / 3  # of sampled answers, those that are no beginning of another
KIND_LABELS = 16  # kinds of error, and each shuffled
INNER_FITS = 4  # folds among the training questions, and the final fit
EXPORTED_VECTORS = 4  # of a probe, in double precision
NESTED_FITS, NESTED_PREDICTIONS = 15, 5  # of five folds and their pairs; of one answer


def _fit_seconds(job: Job, protocol: str, features: int, labels: int) -> float:
    """Seconds of one fit of a probe; labels: the number of labels that share a product."""
    probe = job.work.probes[protocol]
    fitted = job.work.questions * probe.share
    if probe.kind == "mean_difference":
        return 8 * fitted * features / MEMORY_RATE + FIT
    if probe.kind == "mlp":  # forward, and the weights' gradient
        examples = max(EPOCHS * fitted, STEPS * min(BATCH, fitted))
        return 4 * examples * features * HIDDEN_UNITS / PROBE_RATE + STEPS * FIT / 12
    if probe.kind == "lda":  # two shrunk covariances, and least squares
        return (6 * fitted * features**2 + 12 * features**3) / PROBE_RATE + FIT
    if probe.solver != "newton":  # limited by memory, not by arithmetic
        return 100 * 4 * fitted * features / 1e9 + 0.01
    if fitted < MORE_EXAMPLES * features:  # the dual problem, in the examples
        side, product = fitted, fitted**2 * features / labels
    else:
        side, product = features, FACTORS * fitted * features**2
    return (product + FACTORS * side**3 / 3) / PROBE_RATE + FIT


def _probe_bytes(job: Job, features: int) -> float:
    """Each process reads a layer, all tokens of all questions, twice; a fit uses ten tokens."""
    token = 4 * job.work.questions * features
    return job.threads * (PROBE_PROCESS + (2 * len(NAMED_TOKENS) + 10) * token)


def score_probes(job: Job) -> Cost:
    probe, hidden, jobs = job.work.probes[job.protocol], job.model.hidden_size, job.work.probe_jobs
    layers = math.ceil((job.model.layers + 1) / jobs)
    fits = layers * probe.tokens * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, job.protocol, hidden, probe.labels) / job.threads
    read = 2 * 4 * job.work.questions * hidden_values(job) / jobs / STORAGE
    predictions = fits * job.work.questions / probe.divisions
    return Cost(seconds + read, _probe_bytes(job, hidden), disk=16 * predictions)


def score_best_cell(job: Job) -> Cost:
    """One factor per cell and split, and a product with the labels of every permutation."""
    hidden, probe, columns = job.model.hidden_size, job.work.probes["scores"], job.work.permutations
    fits = (job.model.layers + 1) * probe.tokens * probe.divisions
    fitted = job.work.questions * probe.share
    operations = fitted * columns * (fitted + 2 * hidden)
    seconds = _fit_seconds(job, "scores", hidden, labels=1) + operations / PROBE_RATE
    read = 2 * 4 * job.work.questions * hidden_values(job) / STORAGE
    predictions = 160 * (job.model.layers + 1) * probe.tokens * job.work.questions
    memory = _probe_bytes(job, hidden) + predictions + 12 * job.threads * 4 * fitted * columns
    return Cost(fits * seconds / job.threads + read, memory)


def score_transfer(job: Job) -> Cost:
    """Probes of every fold and pair of folds, in every cell of every set."""
    hidden, tokens = job.model.hidden_size, job.work.transfer_tokens
    fits = (job.model.layers + 1) * tokens * NESTED_FITS
    of_sets = [job._replace(work=replace(job.work, questions=n)) for n in job.work.transferred]
    each = sum(_fit_seconds(one, "scores", hidden, labels=1) for one in of_sets)
    questions = sum(job.work.transferred)
    read = 2 * 4 * questions * hidden_values(job) / STORAGE
    states = job.threads * (PROBE_PROCESS + (2 * len(NAMED_TOKENS) + 10) * 4 * questions * hidden)
    predictions = (job.model.layers + 1) * tokens * questions * NESTED_PREDICTIONS
    return Cost(fits * each / job.threads + read, states + 160 * predictions)


def score_probe_heads(job: Job) -> Cost:
    """A probe for every head, at one token, and all tokens of a layer read for it."""
    model, probe = job.model, job.work.probes["scores"]
    fits = model.layers * model.heads * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, "scores", model.head_dim, probe.labels) / job.threads
    width = model.heads * model.head_dim
    read = 4 * job.work.questions * width * model.layers * len(NAMED_TOKENS) / STORAGE
    predictions = fits * job.work.questions / probe.divisions / PREDICTION_RATE
    memory = _probe_bytes(job, width) + 160 * fits * job.work.questions / probe.divisions
    return Cost(seconds + read + predictions, memory)


def export_probes(job: Job) -> Cost:
    """One probe per token, each of another layer at most."""
    hidden, probe = job.model.hidden_size, job.work.probes["scores"]
    fits = probe.tokens * probe.labels * _fit_seconds(job, "scores", hidden, labels=1)
    read = 2 * 4 * job.work.questions * probe.tokens * hidden * len(NAMED_TOKENS) / STORAGE
    written = probe.tokens * EXPORTED_VECTORS * 8 * hidden
    return Cost(fits + read, _probe_bytes(job, hidden), disk=1e6 + written)


def ask_samples(job: Job, purpose: str, values: int = 0) -> Cost:
    """The different ones of all sampled answers, as if each were a question."""
    different = math.ceil(job.work.sampled * job.work.samples * DIFFERENT)
    return ask_questions(job._replace(work=replace(job.work, questions=different)), purpose, values)


def score_kinds(job: Job, tokens: int, labels: int) -> Cost:
    """Fits of each layer at some tokens, on the folds of the probe."""
    layers, hidden = job.model.layers + 1, job.model.hidden_size
    fits = layers * tokens * job.work.probes["scores"].divisions * labels
    seconds = fits * _fit_seconds(job, "scores", hidden, labels) / job.threads
    read = 2 * 4 * job.work.questions * hidden_values(job) / STORAGE
    return Cost(seconds + read, _probe_bytes(job, hidden))


def score_module_probes(job: Job) -> Cost:
    """One probe for every projection; two have as many outputs as the feed-forward part."""
    model, widest = job.model, max(job.model.intermediate_size, job.model.hidden_size)
    block = 5 * _fit_seconds(job, "scores", model.hidden_size, labels=1)
    block += 2 * _fit_seconds(job, "scores", widest, labels=1)
    fits = model.layers * job.work.probes["scores"].divisions * block / job.threads
    read = 2 * 4 * job.work.questions * module_values(job) / STORAGE
    return Cost(fits + read, _probe_bytes(job, widest))


def read_predictions(job: Job) -> Cost:
    """A probe's predictions, in memory or bootstrapped."""
    count = max(probe.tokens * probe.labels for probe in job.work.probes.values())
    count *= (job.model.layers + 1) * job.work.questions
    return Cost(count / PREDICTION_RATE, memory=160 * count)
