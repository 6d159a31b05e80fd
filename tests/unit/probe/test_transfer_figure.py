"""The matrix of transferred probes: cells, caption, claims, on its own and on a page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from drawn_figures import drawn, texts
from drawn_texts import find_faults, read_size
from llm_figures.claims.claims_file import read_claims
from llm_figures.claims.definitions import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.stated_numbers import CLOSING, DASH, OPENING
from llm_figures.plotting.captions import make_caption
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.finite import check_drawn
from llm_figures.plotting.layout import draw_to_fit, find_problem
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style
from llm_figures.probe import transfer_figure as figure
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.transfer import BASELINE, COLUMNS, WHOLE
from llm_figures.probe.transfer_options import ProbeTransfer
from llm_figures.probe.transfer_sets import nested_protocol

FACTS = ("capital", "currency", "continent", "language")
SETS = (*FACTS, "symbol", "state capital", "airports", "elements", "arithmetic")
OPTIONS = figure.OPTIONS.model_validate(
    {**ProbeTransfer().plain(), "protocol": PRESETS["strict"].plain()}
)
MARK = re.compile(f"{OPENING}(.*?){CLOSING}")


def plant(auc, baseline, names=SETS, half=0.05):
    """Scores of all pairs. auc, baseline: functions of the sets trained and tested on."""
    rows = []
    for test in names:
        for train in names:
            probe, other = auc(train, test), baseline(train, test)
            place = {"train": train, "test": test, "n_train": 100, "n_test": 90, "right": 45}
            place |= {"wrong": 45, "shared": 0, "unconverged": 0, "problem": ""}
            difference = np.nan if train == test else probe - auc(test, test)
            for control, value in (("none", probe), (BASELINE, other)):
                gain = probe - other if control == BASELINE else np.nan
                rows.append(
                    place
                    | {"control": control, "auc": value, "ci_low": value - half}
                    | {"ci_high": value + half, "difference": difference}
                    | {"difference_low": difference - half, "difference_high": difference + half}
                    | {"gain": gain, "gain_low": gain - half, "gain_high": gain + half}
                    | {"layer": 3, "token": "-1", "score": "answer_log_probability"}
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def as_published(train, test):
    """High on its own set, less on those of the same skill, low elsewhere."""
    if train == test:
        return 0.9
    return 0.8 if {train, test} <= {*FACTS} else 0.62


def logits(train, test):
    return 0.75 if {train, test} <= {*FACTS} or train == test else 0.65


PUBLISHED = plant(as_published, logits)
CONTRARY = {
    "everything transfers": plant(lambda train, test: 0.9, logits),
    "the tested set is worst": plant(
        lambda train, test: 0.5 if train == test else 0.7, lambda train, test: 0.6
    ),
    "nothing transfers": plant(lambda train, test: 0.9 if train == test else 0.3, logits),
    "sums are easy": plant(
        lambda train, test: 0.95 if "arithmetic" in (train, test) else 0.6, logits
    ),
}
WITH_HOLES = pd.concat(
    [
        PUBLISHED.assign(
            auc=PUBLISHED["auc"].where(PUBLISHED["train"] != "symbol"),
            gain=PUBLISHED["gain"].where(PUBLISHED["train"] != "symbol"),
            shared=3,
            unconverged=2,
        ),
        pd.DataFrame([{"train": "atomic number", "test": "atomic number", "control": "none"}]),
    ],
    ignore_index=True,
).astype(dict.fromkeys(WHOLE, "Int64"))


def claims(root):
    built_in = read_claims(root / "config" / "claims.yaml", [])
    return [claim for claim in built_in if claim.figure == "probe_transfer"]


def verdicts(about, scores):
    rows = check_table_claims("m", about, figure.list_claim_cells(scores, OPTIONS))
    return dict(zip(rows["claim"], rows["verdict"], strict=True))


def test_every_claim_holds_of_the_published_finding(root):
    about = claims(root)
    assert len(about) == 6
    assert set(verdicts(about, PUBLISHED).values()) == {REPRODUCED}


def test_every_claim_can_fail(root):
    about = claims(root)
    found = [verdicts(about, scores) for scores in CONTRARY.values()]
    for claim in about:
        assert NOT_REPRODUCED in {one[claim.id] for one in found}, claim.id


@pytest.mark.parametrize("less", [0.0, 0.2])
def test_no_claim_is_decided_by_construction(root, less):
    """less: of the baseline everywhere. That a probe is above it for every pair is a finding."""

    def probe(train, test):
        return as_published(train, test) + 0.005 * SETS.index(test)

    scores = plant(probe, lambda train, test: logits(train, test) - less)
    rows = check_table_claims("m", claims(root), figure.list_claim_cells(scores, OPTIONS))
    decided = rows.loc[rows["decided"].astype(bool), "claim"]
    assert list(decided) == []


def test_a_pair_without_a_score_is_in_no_average(root):
    cells = figure.list_claim_cells(WITH_HOLES, OPTIONS)
    # of "symbol" there is no probe: neither of its pairs nor for what it is compared with
    cells = cells[cells["column"] != "symbol"].dropna(subset="value")
    found = {
        control: set(zip(rows["row"], rows["column"], strict=True))
        for control, rows in cells.groupby("control")
    }
    others = [name for name in SETS if name != "symbol"]
    pairs = {(train, test) for train in others for test in others if train != test}
    assert set(map(frozenset, found.values())) == {frozenset(pairs)}
    assert {"none", "own", BASELINE, "own_baseline", "gain", "difference"} == set(found)


def test_a_claim_about_sets_that_are_not_there_is_not_applicable(root):
    scores = plant(as_published, logits, names=("lake", "river"))
    found = verdicts(claims(root), scores)
    assert found["transfer-skills-differ"] == NOT_APPLICABLE
    assert found["transfer-below-own"] == REPRODUCED


def test_rows_are_trained_on_and_columns_tested_on(tmp_path):
    scores = plant(lambda train, test: 0.6 if train == "lake" else 0.71, logits, ("lake", "sea"))
    fig = figure.draw(scores, OPTIONS)
    _, aucs = fig.axes[0].panel
    assert aucs.loc["lake", "sea"] == 0.6
    assert aucs.loc["sea", "lake"] == 0.71
    _, gains = fig.axes[1].panel
    assert gains.loc["lake", "sea"] == pytest.approx(0.6 - 0.65)
    words = texts(drawn(figure.draw, scores, OPTIONS, tmp_path))
    assert words.count("60") == words.count("71") == 2
    assert words.count("−5") == 1
    assert words.count("Trained on") == 1


def test_gains_apart_from_zero_are_bold():
    fig = figure.draw(PUBLISHED, OPTIONS)
    _, gains = fig.axes[1].panel
    bold = [text.get_weight() == "bold" for text in fig.axes[1].texts]
    assert bold == [abs(gain) > 0.05 for gain in gains.to_numpy().ravel()]
    assert any(bold)
    assert not all(bold)


def test_sets_that_are_left_out_are_named_and_missing_cells_are_dashes():
    fig = figure.draw(WITH_HOLES, OPTIONS)
    _, aucs = fig.axes[0].panel
    assert list(aucs.index) == list(aucs.columns) == list(SETS)
    assert [text.get_text() for text in fig.axes[0].texts].count("–") == len(SETS)
    text = figure.describe(WITH_HOLES, "m", OPTIONS)
    check_drawn(fig, text, "probe_transfer")
    assert "20 right and 20 wrong answers: atomic number." in text
    assert "18 fits did not converge." in text
    assert "not trained on for the pair" in text


def test_the_caption_tells_why_a_set_is_left_out():
    same = {"train": "same", "test": "same", "control": "none", "problem": "19 distinct questions"}
    scores = pd.concat([WITH_HOLES, pd.DataFrame([same])], ignore_index=True)
    caption = figure.describe(scores.astype(dict.fromkeys(WHOLE, "Int64")), "m", OPTIONS)
    assert "Left out, with fewer than 20 right and 20 wrong answers: atomic number." in caption
    assert "fewer than 20 questions that differ in more than spelling: same." in caption


@pytest.mark.parametrize(
    ("changes", "folds"),
    [({"folds": 7}, 7), ({"folds": 2}, 3), ({"split": "single", "folds": 10}, 5)],
)
def test_the_caption_states_the_folds_that_were_used(changes, folds):
    protocol = PRESETS["strict"].changed(**changes)
    options = OPTIONS.changed(protocol=protocol)
    caption = re.sub(f"[{OPENING}{CLOSING}]", "", figure.describe(PUBLISHED, "m", options))
    assert f"highest AUC over {folds} folds" in caption
    assert nested_protocol(protocol).folds == folds


@pytest.mark.parametrize(
    ("changes", "place", "diagonal"),
    [
        (
            {},
            "Layer and token are those with the highest AUC over 5 folds of the training set; the "
            "tested set is not looked at.",
            "was fitted, and whose layer and token were chosen, without it.",
        ),
        (
            {"layer": 20},
            "All probes are of layer 20. Token is that with the highest AUC over 5 folds",
            "was fitted, and whose token was chosen, without it.",
        ),
        (
            {"tokens": ("-1",)},
            "All probes are of token -1. Layer is that with the highest AUC over 5 folds",
            "was fitted, and whose layer was chosen, without it.",
        ),
        (
            {"layer": 0, "tokens": ("last_q",)},
            "All probes are of layer 0 and token last_q. The framed diagonal is the set itself",
            "each fold tested by a probe that was fitted without it.",
        ),
    ],
)
def test_the_caption_states_what_is_chosen_and_what_is_fixed(changes, place, diagonal):
    options = OPTIONS.changed(**changes)
    text, stated = make_caption(figure, PUBLISHED, "the model", options, "probe/transfer.parquet")
    assert place in text
    assert diagonal in text
    rest = MARK.sub("", stated["caption"])
    for phrase in sorted(stated["constants"], key=len, reverse=True):
        rest = rest.replace(phrase, "")
    assert not re.search(r"\d", rest), rest


def test_the_caption_counts_pairs():
    numbers = figure.state_numbers(PUBLISHED, OPTIONS)
    assert numbers["pairs"].value == 72
    assert numbers["pair_auc"].value == pytest.approx((12 * 0.8 + 60 * 0.62) / 72)
    assert numbers["own_auc"].value == pytest.approx(0.9)
    # 0.8 to 0.75 is exactly at the end of the interval
    assert numbers["owns_above_baseline"].value == 9
    assert numbers["pairs_below_own"].value == 72
    assert numbers["pairs_above_chance"].value == 72
    text = figure.describe(PUBLISHED, "m", OPTIONS)
    assert "0.900 on the set itself, 0.650 on another" in text


@pytest.mark.parametrize("scores", [PUBLISHED, WITH_HOLES], ids=["whole", "with holes"])
def test_every_number_of_the_caption_is_stated(scores):
    text, stated = make_caption(figure, scores, "the model", OPTIONS, "probe/transfer.parquet")
    numbers = stated["numbers"]
    assert MARK.sub(lambda mark: numbers[mark[1]]["text"], stated["caption"]) == text
    rest = MARK.sub("", stated["caption"])
    for phrase in sorted(stated["constants"], key=len, reverse=True):
        rest = rest.replace(phrase, "")
    assert not re.search(r"\d", rest), rest
    assert DASH not in {numbers[name]["text"] for name in MARK.findall(stated["caption"])}
    for name, number in numbers.items():
        if number["column"] is not None and number["value"] is not None:
            rows = scores
            for column, value in number["row"].items():
                rows = rows[rows[column] == value]
            assert rows[number["column"]].unique().tolist() == [number["value"]], name


@pytest.mark.parametrize("size", [15, 24])
def test_it_grows_with_a_large_font(size):
    with drawing_style(Style(font_size=size)):
        fig = draw_to_fit("probe_transfer", lambda: figure.draw(WITH_HOLES, OPTIONS))
        assert find_problem(fig, on_page=False) == ""


@pytest.mark.parametrize("page", ["icml", "neurips", "nature"])
def test_every_text_is_legible_on_a_page(tmp_path, page):
    style = Style(venue=page, dpi=200)
    with drawing_style(style):
        fig = draw_to_fit("probe_transfer", lambda: figure.draw(WITH_HOLES, OPTIONS))
        save(fig, [tmp_path / "figure.svg"])
    svg = ET.parse(tmp_path / "figure.svg").getroot()
    assert find_faults(svg) == []
    assert read_size(svg)[0] == pytest.approx(72 * style.inches, abs=0.5)
