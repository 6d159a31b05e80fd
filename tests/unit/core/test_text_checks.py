import pytest
from pydantic import Field

from llm_figures.core.errors import UserError
from llm_figures.core.options import Integer, Options, Seed
from llm_figures.core.options_reader import read_options
from llm_figures.core.text_checks import find_name_problem, find_path_problem, value_problems


class Sample(Options):
    text: str = ""
    table: dict[str, tuple[str, ...]] = Field(default={})
    count: Integer = 0
    seed: Seed = 0


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"text": "a\ud800b"}, "text: 'a\\ud800b' holds a lone surrogate (\\ud800), half of a"),
        (
            {"text": "a \ud83d\ude00"},
            "text: 'a \\ud83d\\ude00' holds a character as JSON spells it, in two halves "
            "(\\ud83d\\ude00); in YAML write \\U0001F600",
        ),
        ({"text": "\udfff"}, "text: '\\udfff' holds a lone surrogate (\\udfff)"),
        ({"text": "a\0"}, "text: 'a\\x00' holds a NUL character (\\x00); remove it"),
        ({"table": {"a": ["b", "\ud800"]}}, "table.a[2]: '\\ud800' holds a lone surrogate"),
        ({"table": {"\ud800": []}}, "table: '\\ud800' holds a lone surrogate"),
        ({"count": 2**63}, "count: an integer of 19 digits is too large"),
        ({"count": -(2**70)}, "count: an integer of 22 digits is too large"),
        ({"count": 1e300}, "count: an integer of 301 digits is too large"),
        ({"count": 16**5000}, "count: an integer of 6021 digits is too large"),
        ({16**5000: 1}, "an integer of 6021 digits is too large"),
        ({"seed": 2**32}, "seed: 4294967296; must be at most 4294967295"),
        ({"seed": -1}, "seed: -1; must be at least 0"),
    ],
    ids=[
        "half",
        "pair",
        "low",
        "nul",
        "item",
        "key",
        "64",
        "negative",
        "float",
        "hex",
        "huge key",
        "seed",
        "below",
    ],
)
def test_what_no_file_can_hold_is_one_line_that_names_the_key(values, line):
    with pytest.raises(UserError) as caught:
        read_options(Sample, values, "config")
    assert str(caught.value).startswith(f"config: {line}")
    assert str(caught.value).encode().decode().isprintable()


def test_whole_characters_and_the_greatest_numbers_are_taken():
    given = {"text": "a\U0001f600 é\n\t{x}", "count": 2**63 - 1, "seed": 2**32 - 1}
    assert read_options(Sample, given, "config").plain() == {**given, "table": {}}
    assert list(value_problems({"a": [1, None, 2.5, {"b": "text"}]})) == []


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("data/a{x}.csv", "holds '{x}', and Snakemake takes names in braces for wildcards"),
        ("{model}/a.csv", "holds '{model}'"),
        ("a{ x , [0-9]+}.csv", "holds '{ x ,'"),
        ("a{{x}}", "holds '{x}'"),
        ("a\nb", "holds a control character; rename"),
        ("a\x1b[31m", "holds a control character"),
        ("\ud800", "holds a lone surrogate"),
        ("a\0b", "holds a NUL character"),
        ("a" * 256, "is too long; each part of a path has at most 255 bytes"),
        ("é" * 128, "is too long"),
        ("ab/" * 1500, "is too long"),
    ],
)
def test_paths_that_cannot_be_inputs_are_refused(path, problem):
    assert find_path_problem(path).startswith(problem)


@pytest.mark.parametrize(
    "path",
    ["a b.csv", "a{}.csv", "{a b}", "}x{", "é/日本/a\xa0b", "x" * 255, "$HOME/%s/*?[a]", "~"],
)
def test_other_paths_are_taken(path):
    assert find_path_problem(path) is None


def test_snakemake_takes_exactly_the_refused_paths_for_patterns():
    from snakemake.io import contains_wildcard

    for path in ("a{x}", "a{{x}}", "{ x }", "{x,.*}", "{1}", "{a.b}", "{}", "{a b}", "{-}", "}x{"):
        assert contains_wildcard(path) == (find_path_problem(path) is not None), path


def test_names_that_snakemake_takes_for_a_loop_are_refused():
    from snakemake.io import PeriodicityDetector

    periodic = PeriodicityDetector()
    for name in ("a" * 19, "a" * 20, "ab" * 20, "x" + "abc" * 20, "abc" * 19, "aaaa-b", "0" * 64):
        assert bool(periodic.is_periodic(name)) == (find_name_problem(name) is not None), name
    assert find_name_problem("a" * 25).startswith("repeats one part twenty times")
    assert find_name_problem("abcdefghi-" * 11) == "is too long; a name has at most 100 characters"


def test_a_value_that_contains_itself_is_one_line():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(UserError, match=r"^config: nested too deeply, or an alias \(\*name\)"):
        read_options(Sample, {"text": cycle}, "config")
