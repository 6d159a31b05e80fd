"""Costs of jobs that fit probes, and of those that read their predictions."""

import math
from dataclasses import replace

from llm_figures.probe.protocol import BATCH, EPOCHS, HIDDEN_UNITS, STEPS
from llm_figures.probe.token_positions import NAMED_TOKENS
from llm_figures.workflow.pass_costs import (
    ROW_GROUP,
    STORAGE,
    Cost,
    Job,
    ask_questions,
    hidden_values,
    module_values,
)

PROBE_RATE = 30e9  # operations, a core: products and Cholesky factors of a few hundred examples
PREDICTION_RATE = 80e3  # predictions that are bootstrapped
FIT = 3e-3  # a fit's small steps
MEMORY_RATE = 1e9  # bytes of features, a core, read for sums
PROBE_PROCESS = 300e6  # NumPy and pandas
AT_ONCE = 2**29  # bytes of states, as in probe/stored_states.py
TOGETHER = 60  # fits, as in probe/fitting.py
CELL_COPIES = 7  # of a cell's states in float32, in one process
PREDICTION = 160  # bytes of one in memory
RESAMPLES = 3 * 8 * 1001  # bytes, for each answer, of the weights of bootstrap resamples
INNER_STEPS = 15  # of a ridge regression within a training set
PASSES = 30  # steps of a fit, each two products with the states
DIFFERENT = 1 / 3  # of sampled answers, those that are no beginning of another
KIND_LABELS = 16  # kinds of error, and each shuffled
INNER_FITS = 4  # folds among the training questions, and the final fit
EXPORTED_VECTORS = 4  # of a probe, in double precision
NESTED_FITS, NESTED_PREDICTIONS = 15, 5  # of five folds and their pairs; of one answer


def _fit_seconds(job: Job, protocol: str, features: int, labels: int) -> float:
    """Seconds of one fit of a probe; labels: the number of labels that are fitted together."""
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
    # A system that all fits of a cell share, one of its own, and products with the states.
    side = min(fitted, features)
    system = fitted * features * side + side**3 / 3
    shared = system / (probe.divisions * labels)
    return (shared + system + PASSES * 4 * fitted * features) / PROBE_RATE + FIT


def _probe_bytes(job: Job, features: int, fits: int | None = None) -> float:
    """Each process reads tokens of a layer, as many as fit, and fits one after the other.

    fits: of a cell; by default those of the configured probe.
    """
    token = job.work.questions * features
    stored = job.work.states_bytes * token
    read = max(stored, min(AT_ONCE, len(NAMED_TOKENS) * stored))
    # Fits that converge slowly have a system each, as many as are fitted together.
    probe = job.work.probes["scores"]
    together = min(TOGETHER, fits or probe.divisions * probe.labels)
    systems = together * 4 * min(job.work.questions, features) ** 2
    return job.threads * (PROBE_PROCESS + ROW_GROUP + read + CELL_COPIES * 4 * token + systems)


def _read_seconds(job: Job, values: float, passes: float = 2) -> float:
    """Seconds in which states are read. values: of one question; passes: over the files."""
    return passes * job.work.states_bytes * job.work.questions * values / STORAGE


def _layer_passes(job: Job, tokens: int) -> int:
    """How often a layer is read for the probes of some tokens."""
    stored = job.work.states_bytes * job.work.questions * job.model.hidden_size
    return math.ceil(tokens / max(1, AT_ONCE // max(1, stored)))


def score_probes(job: Job) -> Cost:
    probe, hidden, jobs = job.work.probes[job.protocol], job.model.hidden_size, job.work.probe_jobs
    layers = math.ceil((job.model.layers + 1) / jobs)
    fits = layers * probe.tokens * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, job.protocol, hidden, probe.labels) / job.threads
    passes = 1 + _layer_passes(job, probe.tokens)
    read = _read_seconds(job, hidden_values(job), passes) / jobs
    predictions = fits * job.work.questions / probe.divisions
    return Cost(seconds + read, _probe_bytes(job, hidden), disk=16 * predictions)


def collect_probe_scores(job: Job) -> Cost:
    """The predictions of all cells, and the controls of those that are chosen.

    There may be as many as divisions, or a single one, which one process fits.
    """
    hidden, probe = job.model.hidden_size, job.work.probes[job.protocol]
    cost = read_predictions(job)
    if not probe.shuffled:
        return cost
    fits = probe.divisions * (1 + probe.shuffled)
    layers = min(probe.divisions, job.model.layers + 1)
    read = _read_seconds(job, hidden_values(job), 1) * layers / (job.model.layers + 1)
    seconds = fits * _fit_seconds(job, job.protocol, hidden, probe.shuffled) + read
    processes = job._replace(threads=min(job.threads, layers))
    memory = cost.memory + _probe_bytes(processes, hidden, fits)
    memory += PREDICTION * job.work.questions * (1 + probe.shuffled)
    return Cost(cost.seconds + seconds, memory)


def score_best_cell(job: Job) -> Cost:
    """One factor per cell and split, and a product with the labels of every permutation.

    For the repeated choice, a ridge regression for every pair of folds of each draw, and the
    controls of the cells that are chosen, one after the other.
    """
    hidden, probe, columns = job.model.hidden_size, job.work.probes["scores"], job.work.permutations
    fits = (job.model.layers + 1) * probe.tokens * probe.divisions
    fitted = job.work.questions * probe.share
    operations = fitted * columns * (fitted + 2 * hidden)
    operations += 2 * job.work.best_repeats * INNER_STEPS * 4 * fitted * hidden
    seconds = _fit_seconds(job, "scores", hidden, labels=1) + operations / PROBE_RATE
    read = _read_seconds(job, hidden_values(job), 1 + _layer_passes(job, probe.tokens))
    of_layer = (PREDICTION * probe.tokens + RESAMPLES) * job.work.questions
    memory = _probe_bytes(job, hidden) + of_layer + 12 * job.threads * 4 * fitted * columns
    chosen = job.work.best_repeats * probe.divisions * (1 + probe.shuffled)
    read += chosen * _fit_seconds(job, "scores", hidden, max(1, probe.shuffled))
    return Cost(fits * seconds / job.threads + read, memory)


def score_transfer(job: Job) -> Cost:
    """Probes of every fold and pair of folds, in every cell of every set."""
    hidden, tokens = job.model.hidden_size, job.work.transfer_tokens
    layers = job.work.transfer_layers or job.model.layers + 1
    fits = layers * tokens * NESTED_FITS
    of_sets = [job._replace(work=replace(job.work, questions=n)) for n in job.work.transferred]
    each = sum(_fit_seconds(one, "scores", hidden, labels=1) for one in of_sets)
    questions = sum(job.work.transferred)
    every = job._replace(work=replace(job.work, questions=questions))
    read = _read_seconds(every, hidden_values(job), 1 + _layer_passes(every, tokens))
    predictions = layers * tokens * questions * NESTED_PREDICTIONS
    memory = _probe_bytes(every, hidden) + PREDICTION * predictions
    return Cost(fits * each / job.threads + read, memory)


def score_probe_heads(job: Job) -> Cost:
    """A probe for every head, at one token, and all tokens of a layer read for it."""
    model, probe = job.model, job.work.probes["scores"]
    fits = model.layers * model.heads * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, "scores", model.head_dim, probe.labels) / job.threads
    width = model.heads * model.head_dim
    read = _read_seconds(job, width * model.layers * len(NAMED_TOKENS), passes=1)
    predictions = fits * job.work.questions / probe.divisions
    of_layer = PREDICTION * predictions / model.layers + RESAMPLES * job.work.questions
    seconds += read + predictions / PREDICTION_RATE
    return Cost(seconds, _probe_bytes(job, width) + of_layer)


def export_probes(job: Job) -> Cost:
    """One probe per token, each of another layer at most."""
    hidden, probe = job.model.hidden_size, job.work.probes["scores"]
    fits = probe.tokens * probe.labels * _fit_seconds(job, "scores", hidden, labels=1)
    read = _read_seconds(job, probe.tokens * hidden * len(NAMED_TOKENS))
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
    read = _read_seconds(job, hidden_values(job), 1 + _layer_passes(job, tokens))
    return Cost(seconds + read, _probe_bytes(job, hidden))


def score_module_probes(job: Job) -> Cost:
    """One probe for every projection; two have as many outputs as the feed-forward part."""
    model, widest = job.model, max(job.model.intermediate_size, job.model.hidden_size)
    block = 5 * _fit_seconds(job, "scores", model.hidden_size, labels=1)
    block += 2 * _fit_seconds(job, "scores", widest, labels=1)
    fits = model.layers * job.work.probes["scores"].divisions * block / job.threads
    read = _read_seconds(job, module_values(job))
    return Cost(fits + read, _probe_bytes(job, widest))


def read_predictions(job: Job) -> Cost:
    """A probe's predictions, read layer by layer and bootstrapped."""
    of_layer = max(probe.tokens * probe.labels for probe in job.work.probes.values())
    of_layer *= job.work.questions
    seconds = (job.model.layers + 1) * of_layer / PREDICTION_RATE
    return Cost(seconds, memory=PREDICTION * of_layer + RESAMPLES * job.work.questions)
