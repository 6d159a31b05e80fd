"""Kinds of probe besides logistic regression, against scikit-learn and plain NumPy."""

import zlib

import numpy as np
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.probe.cells import make_cells
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.export import refit_probe
from llm_figures.probe.fitting import probe_cell, probe_layers
from llm_figures.probe.kinds import fit_kind
from llm_figures.probe.options import Probe
from llm_figures.probe.protocol import BATCH, EPOCHS, HIDDEN_UNITS, PRESETS, STEPS
from llm_figures.probe.protocol_text import describe_method
from llm_figures.probe.scores import compute_probe_scores

COUNT, HIDDEN, TOKEN, LAYER = 240, 12, "-1", 3
KINDS = ("mean_difference", "lda", "mlp")


def resolve(kind, **options):
    return Probe(kind=kind, **options).resolve(hold_out=False)


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


def answered(labels, **columns):
    ids = np.arange(len(labels))
    return pd.DataFrame(
        {"question_id": ids, "correct": labels == 0, "valid": True, "hold_out": False}
        | {"split_group": ids, "group": np.where(ids % 2, "a", "b"), "answer": "x"}
        | columns
    )


def one_cell(labels, protocol):
    keys = pd.DataFrame({"question_id": np.arange(len(labels)), "token": TOKEN})
    (cell,), _ = make_cells(keys, answered(labels), [TOKEN], protocol)
    return cell


def shifted(labels, hidden=HIDDEN, strength=1.0, seed=0):
    """Features of very different size and offset; the first few differ between the labels."""
    random = np.random.default_rng(seed)
    size, offset = random.lognormal(0, 2, hidden), random.normal(0, 30, hidden)
    states = random.normal(size=(len(labels), hidden))
    states[:, :4] += strength * labels[:, None]
    return (states * size + offset).astype(np.float32)


def exclusive_or(labels, hidden=HIDDEN):
    """Two features whose signs agree for label 1 and differ for label 0."""
    random = np.random.default_rng(2)
    states = random.normal(scale=0.3, size=(len(labels), hidden))
    first = random.choice([-1, 1], len(labels))
    states[:, 0] += first
    states[:, 1] += first * np.where(labels, 1, -1)
    return states.astype(np.float32)


def score_plainly(kind, X, labels, test, seed):
    """Scores of one fold by scikit-learn and NumPy alone, in double precision."""
    scaler = StandardScaler().fit(X.astype(float)[~test])
    train, tested, y = scaler.transform(X[~test]), scaler.transform(X[test]), labels[~test]
    match kind:
        case "mean_difference":
            direction = train[y == 1].mean(axis=0) - train[y == 0].mean(axis=0)
            middle = (train[y == 1].mean(axis=0) + train[y == 0].mean(axis=0)) / 2
            return (tested - middle) @ direction
        case "lda":
            model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(train, y)
            return model.decision_function(tested)
        case "logistic":
            model = LogisticRegression(C=1 / X.shape[1], tol=1e-10, max_iter=10_000).fit(train, y)
            return model.decision_function(tested)
    batch = min(BATCH, len(y))
    epochs = max(EPOCHS, int(np.ceil(STEPS / np.ceil(len(y) / batch))))
    model = MLPClassifier(
        HIDDEN_UNITS,
        batch_size=batch,
        max_iter=epochs,
        n_iter_no_change=10**6,
        random_state=seed,
    )
    with pytest.warns(UserWarning, match="converge"):
        model.fit(train.astype(np.float32), y)
    chance = model.predict_proba(tested)[:, 1]
    return np.log(chance / (1 - chance))


@pytest.mark.parametrize("kind", ["logistic", *KINDS])
@pytest.mark.parametrize("hidden", [HIDDEN, 400])
def test_scores_are_those_of_scikit_learn_on_the_same_folds(labels, kind, hidden):
    """400 features are more than the 192 training examples."""
    protocol = resolve(kind, seed=7)
    cell, states = one_cell(labels, protocol), shifted(labels, hidden)
    found = probe_cell(states, cell, LAYER, protocol)
    assert set(found["control"]) == {"none", "shuffled_labels", "shuffled_within_group"}
    assert found["converged"].all()
    assert found["C"].notna().all() == (kind == "logistic")
    probe = found[found["control"] == "none"]
    for split in cell.splits:
        key = (7, LAYER, 0, split.fold, zlib.crc32(f"{TOKEN}none".encode()))
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        expected = score_plainly(kind, states, labels, split.test, seed)
        fold = probe[probe["fold"] == split.fold]
        assert (fold["question_id"] == np.flatnonzero(split.test)).all()
        # Steps of Adam enlarge the rounding of single precision.
        close = (1e-2 if kind == "mlp" else 2e-3) * np.abs(expected).max()
        np.testing.assert_allclose(fold["score"], expected, atol=close)


def mean_auc(kind, states, labels):
    protocol = resolve(kind, controls=())
    cell = one_cell(labels, protocol)
    found = probe_cell(states, cell, LAYER, protocol)
    folds = found.groupby("fold")[["question_id", "score"]]
    return np.mean(
        [
            compute_metrics(labels[fold["question_id"]], fold["score"].to_numpy())["auc"][0]
            for _, fold in folds
        ]
    )


def test_only_a_hidden_layer_tells_an_exclusive_or():
    labels = np.arange(600) % 2
    states = exclusive_or(labels)
    assert mean_auc("mlp", states, labels) > 0.95
    for kind in ("logistic", "mean_difference", "lda"):
        assert 0.35 < mean_auc(kind, states, labels) < 0.65


def test_only_lda_and_regression_see_through_shared_noise():
    """The direction of the means is drowned by noise that another feature holds, too."""
    labels = np.arange(600) % 2
    random = np.random.default_rng(4)
    noise = random.normal(size=600)
    states = random.normal(size=(600, HIDDEN)).astype(np.float32)
    states[:, 0] = noise + 0.6 * (labels - 0.5)
    states[:, 1] = noise + 0.3 * random.normal(size=600)
    for kind in ("logistic", "lda"):
        assert mean_auc(kind, states, labels) > mean_auc("mean_difference", states, labels) + 0.1
    assert mean_auc("lda", states, labels) > 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_controls_fail_where_the_probe_does_not(labels, kind):
    protocol = resolve(kind)
    cell = one_cell(labels, protocol)
    answers = answered(labels, p_true=np.random.default_rng(3).random(COUNT))
    layers = [np.zeros((COUNT, HIDDEN), np.float32), shifted(labels, strength=1.5)]
    loaders = [(layer, states.copy) for layer, states in enumerate(layers)]
    frames = probe_layers(loaders, [np.arange(COUNT)], [cell], protocol, jobs=1)
    scores = compute_probe_scores(pd.concat(frames), [cell], answers, protocol)
    auc = scores[scores["metric"] == "auc"].set_index(["layer", "control"])
    assert auc.loc[(1, "none"), "mean"] > 0.9
    assert auc.loc[(1, "shuffled_labels"), "gain_low"] > 0
    # All states of layer 0 are the same, and so are their scores.
    assert auc.loc[(0, "none"), "mean"] == 0.5
    # Baselines are regressions whatever the kind.
    regression = resolve("logistic")
    expected = compute_probe_scores(
        probe_cell(layers[1], cell, 1, regression), [cell], answers, regression
    )
    expected = expected[expected["metric"] == "auc"].set_index(["layer", "control"])
    for control in ("group_only", "p_true"):
        assert auc.loc[(1, control), "mean"] == expected.loc[(1, control), "mean"]


@pytest.mark.parametrize("kind", KINDS)
def test_identical_inputs_score_exactly_equal(labels, kind):
    states = shifted(labels, hidden=37)
    states[::3] = states[0]
    protocol = resolve(kind)
    found = probe_cell(states, one_cell(labels, protocol), LAYER, protocol)
    for _, fit in found.groupby(["control", "fold"]):
        same = fit["question_id"] % 3 == 0
        assert same.sum() > 5
        assert fit.loc[same, "score"].nunique() == 1


@pytest.mark.parametrize("kind", ["lda", "mlp"])
def test_a_fit_depends_on_its_cell_alone(labels, kind):
    protocol = resolve(kind, controls=("shuffled_labels",))
    cell = one_cell(labels, protocol)
    layers = [shifted(labels, seed=seed) for seed in range(3)]
    loaders = [(layer, states.copy) for layer, states in enumerate(layers)]
    one, two = (
        list(probe_layers(loaders, [np.arange(COUNT)], [cell], protocol, jobs=jobs))
        for jobs in (1, 2)
    )
    for first, second in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(first, second)
    (alone,) = probe_layers(loaders[1:2], [np.arange(COUNT)], [cell], protocol, jobs=1)
    pd.testing.assert_frame_equal(alone, one[1])
    other = probe_cell(layers[1], cell, 1, protocol.changed(seed=1))
    differ = (other["score"].to_numpy() != one[1]["score"].to_numpy()).any()
    assert differ


def test_raw_features_keep_the_plain_difference_of_means(labels):
    protocol = resolve("mean_difference", standardise=False, split="single", controls=())
    cell, states = one_cell(labels, protocol), shifted(labels)
    (split,) = cell.splits
    fit = refit_probe(states, cell, LAYER, protocol)
    train, y = states[split.train].astype(float), labels[split.train]
    expected = train[y == 1].mean(axis=0) - train[y == 0].mean(axis=0)
    np.testing.assert_allclose(fit.arrays["direction"], expected, rtol=1e-6)
    assert np.isnan(fit.C)


@pytest.mark.parametrize("kind", ["mean_difference", "lda"])
def test_exported_arrays_give_the_scores_of_the_probe(labels, kind):
    protocol = resolve(kind, split="single", controls=())
    cell, states = one_cell(labels, protocol), shifted(labels)
    (split,) = cell.splits
    found = probe_cell(states, cell, LAYER, protocol)
    arrays = refit_probe(states, cell, LAYER, protocol).arrays
    scores = states[split.test].astype(float) @ arrays["direction"] + arrays["bias"]
    np.testing.assert_allclose(scores, found["score"], rtol=1e-3, atol=1e-3)


def test_a_perceptron_is_not_exported(labels):
    protocol = resolve("mlp")
    with pytest.raises(UserError, match=r"probe.kind: mlp: probes_export writes linear probes"):
        refit_probe(shifted(labels), one_cell(labels, protocol), LAYER, protocol)


def test_a_diverging_perceptron_is_one_clear_line():
    X = np.full((40, 3), 1e38, np.float32)
    with np.errstate(all="ignore"), pytest.raises(UserError, match="set probe.standardise: true"):
        fit_kind("mlp", X, np.arange(40) % 2, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("option", "value"), [("C", 0.5), ("C", "cv"), ("solver", "lbfgs"), ("class_weight", "none")]
)
def test_options_of_regression_are_refused_elsewhere(kind, option, value):
    options = {"kind": kind, option: value}
    (problem,) = read_options(Probe, options, "config: probe").problems()
    assert problem == (
        f"probe.{option}: {value}; only for probe.kind: logistic, and it is {kind}; leave one of "
        "them null"
    )
    assert not list(read_options(Probe, options | {"kind": "logistic"}, "").problems())


@pytest.mark.parametrize("preset", PRESETS)
def test_all_presets_are_regressions(preset):
    assert PRESETS[preset].kind == "logistic"
    assert "Logistic regression" in describe_method(PRESETS[preset])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mean_difference", "Projection onto the difference of the class means (Marks & Tegmark"),
        ("lda", "Linear discriminant analysis, features standardised on the training set, the cov"),
        ("mlp", "one hidden layer of 64 units, features standardised on the training set, trained"),
    ],
)
def test_captions_say_which_probe_it_is(kind, words):
    text = describe_method(resolve(kind))
    assert words in text
    assert "; 5 folds by question; 95% intervals over folds" in text
    assert "C " not in text
