"""Files of claims: what the built-in one covers, and mistakes in a user's own."""

import re

import pytest
import yaml

from llm_figures.claims.claims_file import find_guarded
from llm_figures.claims.definitions import holds, worst
from llm_figures.claims.figures import TARGETS
from llm_figures.core.errors import UserError
from llm_figures.workflow.config import check_claims

# The statements under "Detailed Analysis" and "Key Observations", by line of the description.
STATEMENTS = {
    "mean_qkv a": [22, *range(24, 27), *range(28, 31), *range(32, 35), *range(36, 39)],
    "mean_qkv b": [*range(17, 20), *range(21, 24), *range(25, 28), *range(29, 33)],
    "scale_qkv": [14, *range(16, 19), *range(20, 23), *range(24, 27), *range(28, 31)],
    "probe_auc": [*range(10, 19), *range(20, 24)],
    "module_map": [*range(12, 16), *range(17, 20), 22, 23, 25, 27, 28],
}


def lines_of(source):
    """[(description, line)] of a source such as mean_qkv a, lines 24 and 28; b, line 18."""
    found, figure = [], ""
    for part in source.split("; "):
        if named := re.fullmatch(r"(?:(\w+_\w+) ?)?([ab])?, lines? ([\d, and]+)", part):
            figure = named[1] or figure
            description = f"{figure} {named[2]}" if named[2] else figure
            found += [(description, int(line)) for line in re.findall(r"\d+", named[3])]
    return found


@pytest.fixture(scope="session")
def built_in(root):
    return read(root)


def read(root, *files, **options):
    """All claims of the built-in file and of `files`."""
    return check_claims(
        {"claims": {"files": list(map(str, files)), **options}},
        root / "config" / "claims.yaml",
    )


def test_sources_are_read_as_they_are_written():
    assert lines_of("mean_qkv a, lines 24, 28 and 36; b, lines 18 and 22") == [
        *[("mean_qkv a", line) for line in (24, 28, 36)],
        *[("mean_qkv b", line) for line in (18, 22)],
    ]
    assert lines_of("probe_auc, line 22; Orgad et al. 2025, arXiv 2410.02707") == [
        ("probe_auc", 22)
    ]
    assert lines_of("control of this project") == []


def test_every_statement_of_the_descriptions_has_a_claim_and_every_claim_a_source(built_in):
    covered = {}
    for claim in built_in:
        for description, line in lines_of(claim.source):
            covered.setdefault(description, set()).add(line)
            assert description.split()[0] == claim.figure.removesuffix("_tokens")
        if not lines_of(claim.source):
            assert "arXiv" in claim.source or claim.source == "control of this project"
    assert {name: sorted(lines) for name, lines in covered.items()} == STATEMENTS


def test_the_control_figure_is_held_to_the_same_statements(built_in):
    def of(figure):
        return [claim.changed(figures=()) for claim in built_in if claim.figure == figure]

    assert of("mean_qkv") == of("mean_qkv_tokens")
    assert {claim.figure for claim in built_in} == set(TARGETS)


def test_a_threshold_of_the_built_in_file_says_what_its_statement_says(built_in):
    """approximately a to b, for the probe: the statement's numbers and 0.05 around them."""
    checked = 0
    for claim in built_in:
        if claim.figure != "probe_auc" or claim.comparison != "within":
            continue
        numbers = re.search(r"approximately (0\.\d+|1\.0)(?: to (0\.\d+|1\.0))?", claim.statement)
        low, high = float(numbers[1]), float(numbers[2] or numbers[1])
        assert claim.threshold == pytest.approx([low - 0.05, high + 0.05])
        checked += 1
    assert checked == 10


RULES = {
    r"slightly": {0.01, -0.01},
    r"far more": {0.3},
    r"\bfew\b": {0.1},
    r"no diagonal": {0.1},
    r"for most tokens": {0.5},
    r"lie in the top left corner|spread over the map": {0.9},
    r"nothing is left but": {0.01},
    r"predominantly|mostly": {0.75},
    r"consistently": {0.95},
    r"nearly identical": {0.95},
    r"similar to Query": {0.9},
    r"primarily": {0.5},
    r"almost exclusively|solid stripe": {0.9},
    r"very low weights": {0.05},
}


@pytest.mark.parametrize("words", RULES)
def test_the_same_words_have_the_same_threshold(built_in, words):
    """The rules at the top of the file, word by word."""
    found = [claim for claim in built_in if re.search(words, claim.statement)]
    assert found
    for claim in found:
        assert {claim.threshold} <= RULES[words], claim.id


@pytest.mark.parametrize(
    ("value", "comparison", "threshold", "true"),
    [
        (0.5, ">=", [0.5], True), (0.49, ">=", [0.5], False),
        (0.5, "<=", [0.5], True), (0.51, "<=", [0.5], False),
        (0.5, ">", [0.5], False), (0.51, ">", [0.5], True),
        (0.5, "<", [0.5], False), (0.49, "<", [0.5], True),
        (0.5, "within", [0.5, 0.6], True), (0.6, "within", [0.5, 0.6], True),
        (0.61, "within", [0.5, 0.6], False), (0.49, "within", [0.5, 0.6], False),
    ],
)  # fmt: skip
def test_comparisons(value, comparison, threshold, true):
    assert holds(value, comparison, threshold) is true


@pytest.mark.parametrize(
    ("comparison", "threshold", "expected"),
    [(">=", [0], 0.1), (">", [0], 0.1), ("<=", [0], 0.9), ("<", [0], 0.9),
     ("within", [0, 0.6], 0.9), ("within", [0.5, 1], 0.1)],
)  # fmt: skip
def test_the_worst_value_holds_only_if_all_do(comparison, threshold, expected):
    values = [0.4, 0.9, 0.1]
    assert worst(values, comparison, threshold) == expected
    assert holds(expected, comparison, threshold) == all(
        holds(value, comparison, threshold) for value in values
    )


# Claims of one's own.

MINE = {
    "id": "mine", "figures": ["mean_qkv"], "statement": "So it is.", "source": "my notes",
    "statistic": "sink_strength", "comparison": ">=", "threshold": 0.5,
}  # fmt: skip
TABLE = {"figures": ["probe_auc"], "statistic": "average"}


def write(folder, *claims, **content):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, "claims": list(claims)}), encoding="utf-8")
    return path


def test_a_file_of_ones_own_adds_claims(root, built_in, tmp_path):
    path = write(tmp_path, MINE | {"figures": ["mean_qkv", "scale_qkv"]},
                 published={"scale_qkv": {"operation": "scale"}})  # fmt: skip
    found = read(root, path)
    assert found[: len(built_in)] == built_in
    mean, scale = found[len(built_in) :]
    assert (mean.name, mean.published.plain()) == ("mean_qkv/mine", {})
    assert (scale.figure, scale.published.plain()) == ("scale_qkv", {"operation": "scale"})
    assert (mean.options, mean.certain) == ({}, False)


def test_built_in_claims_are_left_out_by_source(root, built_in, tmp_path):
    path = write(tmp_path, MINE)
    assert read(root, path, built_in="all") == read(root, path)
    assert [claim.name for claim in read(root, path, built_in="none")] == ["mean_qkv/mine"]
    assert read(root, built_in="none") == []
    papers = read(root, path, built_in=["Orgad*", "Gu et al. 2025, *"])
    expected = [
        claim for claim in built_in if "2410.02707" in claim.source or "2410.10781" in claim.source
    ]
    assert papers == [*expected, read(root, path)[-1]]
    # a claim of two sources comes from either
    both = next(claim for claim in built_in if claim.source.startswith("probe_auc, line 22; Orgad"))
    assert both in papers
    assert both in read(root, built_in=["probe_auc*"])


def test_every_description_and_paper_can_be_named_by_its_first_words(root, built_in):
    """What the message of a mistake lists covers every built-in claim."""
    with pytest.raises(UserError) as error:
        read(root, built_in=["Orgad*", "Nobody*"])
    (message,) = str(error.value).splitlines()
    assert message.startswith("config: claims.built_in: 'Nobody*' matches no source of config/")
    names = message.partition("anything after ")[2].split(", ")
    assert {"mean_qkv a", "probe_auc", "Orgad et al. 2025", "control of this project"} <= {*names}
    assert read(root, built_in=[f"{name}*" for name in names]) == built_in


def test_an_id_of_a_claim_that_is_left_out_is_free(root, built_in, tmp_path):
    path = write(tmp_path, MINE | {"id": "mean-causal"})
    with pytest.raises(UserError, match=r"mean-causal: already defined in"):
        read(root, path)
    (own,) = read(root, path, built_in="none")
    assert (own.id, own.source) == ("mean-causal", "my notes")


@pytest.mark.parametrize("value", [True, None, [], "own", ["a", "a"], [1]])
def test_what_built_in_allows_is_said(root, value):
    with pytest.raises(UserError, match=r"^config: claims: built_in"):
        read(root, built_in=value)


def test_numbers_written_as_text_are_numbers(root, tmp_path):
    """YAML 1.1 reads 1e-3 as text."""
    path = write(tmp_path, MINE | {"threshold": "1e-3", "panels": {"epsilon": ["1e-10"]}})
    assert read(root, path)[-1].threshold == 1e-3
    assert read(root, path)[-1].panels.plain() == {"epsilon": [1e-10]}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"statistic": "sink_strenght"}, r"mine: statistic: 'sink_strenght'; for this figure: .*"),
        ({"statistic": "average"},
         r"mine: statistic: 'average'; for this figure: above_diagonal.*"),
        ({**TABLE, "statistic": "mean"}, r"mine: statistic: 'mean'; for this figure: average, .*"),
        ({"statistic": "share_elsewhere"},
         r"mine: options: share_elsewhere takes above, not none"),
        ({"options": {"above": 0.1}}, r"mine: options: sink_strength takes no options, not above"),
        ({"statistic": "share_elsewhere", "options": {"over": 0.1}},
         r"mine: options: share_elsewhere takes above, not over"),
        ({"statistic": "share_elsewhere", "options": {1: 2}},
         r"mine: options: share_elsewhere takes above, not 1"),
        ({"statistic": "share_elsewhere", "options": {1: 2, "above": 3}},
         r"mine: options: share_elsewhere takes above, not 1, above"),
        ({"threshold": int("9" * 400)},
         r"claims\[1\]\.threshold: an integer of 400 digits is too large"),
        ({"threshold": [0.1, 0.2]},
         r"mine: threshold: two numbers for within, one for any other comparison"),
        ({"comparison": "within"},
         r"mine: threshold: two numbers for within, one for any other comparison"),
        ({"comparison": "within", "threshold": [0.2, 0.1]},
         r"mine: threshold: the first must not be above the second"),
        ({"statistic": "correlation"},
         r"mine: statistic: correlation compares two; name the other with versus or across"),
        ({**TABLE, "statistic": "interval_gap"},
         r"mine: statistic: interval_gap compares two; name the other with versus"),
        ({"statistic": "correlation", "across": "input", "versus": {"input": 1}},
         r"mine: statistic: correlation compares two; .*"),
        ({"versus": {"input": 1}},
         r"mine: versus: sink_strength takes one, not two; minus gives a difference"),
        ({"statistic": "correlation", "across": "input", "minus": {"input": 1}},
         r"mine: minus: correlation compares two already; use versus"),
        ({"statistic": "correlation", "across": "input", "along": "epsilon"},
         r"mine: along: correlation compares two; a trend is one of single panels"),
        ({"cells": {"columns": "x"}}, r"mine: cells: not for mean_qkv"),
        ({**TABLE, "panels": {"input": 1}}, r"mine: panels: not for probe_auc"),
        ({"minus": {"columns": "x"}},
         r"mine: minus.columns: not for mean_qkv; allowed: input, component, epsilon"),
        ({**TABLE, "minus": {"input": 1}},
         r"mine: minus.input: not for probe_auc; allowed: columns, layers, rows, control"),
        ({"figures": ["mean_qkv", "module_map"]},
         r"mine: figures: attention figures and tables do not go together in one claim"),
        ({"id": "mean-size"}, r"mean-size: already defined in .*claims\.yaml"),
        ({"treshold": 1}, r"claims\[1\]: unknown key 'treshold'; did you mean threshold\? .*"),
        ({"id": "My claim"}, r"claims\[1\]\.id: 'My claim'; allowed: letters, digits and hyphens"),
        ({"statement": " "}, r"claims\[1\]\.statement: ' ' is an empty text"),
        ({"figures": ["mean"]}, r"claims\[1\]\.figures\[1\]: 'mean'; allowed: mean_qkv, .*"),
        ({"comparison": "="}, r"claims\[1\]\.comparison: '='; allowed: >=, <=, >, <, within"),
        ({"threshold": float("nan")}, r"claims\[1\]\.threshold: nan is not a finite number"),
        ({"threshold": "high"}, r"claims\[1\]\.threshold: 'high' is not of type number or array.*"),
        ({"panels": {"component": "querry"}},
         r"claims\[1\]\.panels\.component: 'querry'; allowed: query, key or value.*"),
        ({"panels": {"component": ["query", "values"]}},
         r"claims\[1\]\.panels\.component\[2\]: 'values'; allowed: query, key, value"),
        ({**TABLE, "cells": {"colums": "x"}},
         r"claims\[1\]\.cells: unknown key 'colums'; did you mean columns\? .*"),
        ({**TABLE, "cells": [{"columns": "x"}, {"layers": [1]}]},
         r"claims\[1\]\.cells\[2\]\.layers: \[1\] has 1 entries; at least 2"),
        ({"minus": {}}, r"claims\[1\]\.minus: \{\} .*"),
        ({"minus": []}, r"claims\[1\]\.minus: \[\] .*"),
        ({"minus": [{"input": 1}, {"layers": [0, 1]}]},
         r"mine: minus.layers: not for mean_qkv; .*"),
        ({**TABLE, "minus": [{"colums": "x"}]},
         r"claims\[1\]\.minus\[1\]: unknown key 'colums'; did you mean columns\? .*"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_file_and_claim(root, tmp_path, changes, problem):
    path = write(tmp_path, MINE | changes)
    with pytest.raises(UserError) as error:
        read(root, path)
    (line,) = str(error.value).splitlines()
    assert re.fullmatch(f"{re.escape(str(path))}: {problem}", line), line


def test_a_missing_key_and_a_second_use_of_an_id_are_named(root, tmp_path):
    path = write(tmp_path, {key: value for key, value in MINE.items() if key != "source"})
    with pytest.raises(UserError, match=r"mine\.yaml: claims\[1\]: missing key\(s\): source$"):
        read(root, path)
    path = write(tmp_path, MINE, MINE | {"threshold": 0.6})
    with pytest.raises(UserError, match=r"mine\.yaml: mine: already defined in .*mine\.yaml$"):
        read(root, path)


def test_all_mistakes_of_a_file_are_reported_at_once(root, tmp_path):
    path = write(tmp_path, MINE | {"statistic": "x"}, MINE | {"id": "other", "cells": {}})
    with pytest.raises(UserError) as error:
        read(root, path)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "config: claims.files: {path}: No such file or directory"),
        (b"claims: [", r"{path}: line 1, column \d+: a flow node is not closed"),
        (b"claims: []\nname: caf\xe9\n", "{path}: not a text in UTF-8"),
        (b"", r"{path}: None is not of type object.*"),
        (
            b"claims: [{source: 2024-02-30}]",
            r"{path}: a date or number cannot be read \(day .*\); quote it",
        ),
        (b"claims: " + b"9" * 5000, r"{path}: a date or number cannot be read \(.*\); quote it"),
        (b"&x\nclaims: [*x]", r"{path}: an alias \(\*name\) refers to a value that contains it"),
        (b"claims: &a [*a]", r"{path}: an alias \(\*name\) refers to a value that contains it"),
        (b"[" * 3000, "{path}: nested too deeply"),
        (b"- 1", r"{path}: \[1\] is not of type object.*"),
        (b"published: {mean_qkv: {}}", r"{path}: missing key\(s\): claims"),
        (b"claims: []\nclaim: []", r"{path}: unknown key 'claim'; did you mean claims\? .*"),
    ],
)
def test_a_file_that_is_none_is_one_line(root, tmp_path, content, problem):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(root, path)
    (line,) = str(error.value).splitlines()
    assert re.fullmatch(problem.replace("{path}", re.escape(str(path))), line), line


def test_a_home_of_nobody_is_no_file(root):
    with pytest.raises(UserError, match=r"claims.files: ~nosuchuser/x.yaml: No such file"):
        read(root, "~nosuchuser/x.yaml")


def test_a_folder_is_no_file(root, tmp_path):
    with pytest.raises(
        UserError, match=f"claims.files: {re.escape(str(tmp_path))}: Is a directory"
    ):
        read(root, tmp_path)


# Guarded claims.


def test_claims_are_guarded_by_id_by_figure_and_by_pattern(built_in):
    assert find_guarded(built_in, []) == []
    assert find_guarded(built_in, ["scale-square"]) == ["scale_qkv/scale-square"]
    assert find_guarded(built_in, ["mean-causal"]) == [
        "mean_qkv/mean-causal",
        "mean_qkv_tokens/mean-causal",
    ]
    assert find_guarded(built_in, ["mean_qkv/mean-causal"]) == ["mean_qkv/mean-causal"]
    whole = [claim.name for claim in built_in if claim.figure == "scale_qkv"]
    assert find_guarded(built_in, ["scale_qkv/*", "scale-square"]) == whole
    assert len(find_guarded(built_in, ["*"])) == len(built_in)


def test_a_pattern_that_names_nothing_is_a_mistake(built_in):
    with pytest.raises(UserError) as error:
        find_guarded(built_in, ["scale-square", "scale_qkv/mean-*"])
    assert re.fullmatch(
        r"config: claims\.fail_on: 'scale_qkv/mean-\*' matches no claim that is checked; .*",
        str(error.value),
    )
