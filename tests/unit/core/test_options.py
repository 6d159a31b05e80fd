"""Option classes: what they read, what they refuse and how they say so."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from llm_figures.core.errors import UserError
from llm_figures.core.options import (
    AnyText,
    Drawing,
    Flag,
    Holds,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
    Text,
    allowed,
    by_kind,
    documentation,
    drawn_keys,
)
from llm_figures.core.options_reader import read_options


class Part(Options):
    count: Integer = 1
    """How many."""


class Colours(Drawing):
    palette: NonEmpty = "Blues"


class Local(Options):
    source: Literal["path"]
    path: Text
    file: Text = Field(default=None)


class Remote(Options):
    source: Literal["hub"]
    repo: Annotated[AnyText, Field(pattern="/"), Says("owner/name")]


Entry = Annotated[Local | Remote, Field(discriminator="source")]


class Base(Options):
    """A base."""

    layer: Annotated[Annotated[Integer, Field(ge=0)] | Literal["auto"], by_kind] = "auto"
    """A layer
    of it.

    The layer, from 0."""


class Whole(Colours, Base):
    share: Annotated[Number, Field(gt=0, le=1)] = 1
    values: Annotated[tuple[Number, ...], Items(1, 3, distinct=True)] = (1,)
    threshold: Annotated[Number | Annotated[tuple[Number, ...], Items(2, 2)], by_kind] = 0
    on: Flag = True
    kind: Literal["a", "b", None] = None
    title: Text = "x"
    prompt: Annotated[AnyText, Holds(("{a}", "{b}")), Holds(("{c}", "{d}"), any_of=True)] = (
        "{a}{b}{c}"
    )
    part: Part | None = Part()
    parts: Annotated[Part | Annotated[tuple[Part, ...], Items(1)], by_kind] = Field(default=None)
    numbers: dict[str, Number] = Field(default={})
    entries: dict[str, Entry] = Field(default={})
    colours: Colours = Colours()
    names: Annotated[
        Literal["auto"] | Annotated[tuple[NonEmpty, ...], Items()],
        by_kind,
        Says("auto or a list of texts"),
    ] = "auto"


def problems(values):
    with pytest.raises(UserError) as caught:
        read_options(Whole, values, "config")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("config: ") for line in lines)
    return [line.removeprefix("config: ") for line in lines]


def test_values_are_read_as_what_they_are():
    whole = read_options(
        Whole,
        {
            "layer": 5.0,
            "share": "1e-3",
            "values": [2, "5e-1"],
            "threshold": "0.5",
            "parts": [{"count": 2.0}],
            "entries": {"mine": {"source": "path", "path": "x"}},
        },
        "config",
    )
    assert (whole.layer, whole.share, whole.values, whole.threshold) == (5, 0.001, (2, 0.5), 0.5)
    assert isinstance(whole.layer, int)
    assert isinstance(whole.values[0], int)  # a number stays what it is
    assert whole.parts == (Part(count=2),)
    assert whole.entries["mine"] == Local(source="path", path="x")
    with pytest.raises(ValidationError, match="frozen"):
        whole.layer = 3


def test_whole_numbers_of_the_command_line_are_text_and_read_as_numbers():
    # Snakemake reads 'part={count: 50}' so
    whole = read_options(Whole, {"layer": "5", "part": {"count": "50"}}, "config")
    assert (whole.layer, whole.part.count) == (5, 50)
    with pytest.raises(UserError, match=r"^config: layer: '?-1'?; must be at least 0"):
        read_options(Whole, {"layer": "-1"}, "config")
    with pytest.raises(UserError, match=r"^config: part.count: '5x'"):
        read_options(Whole, {"part": {"count": "5x"}}, "config")


def test_plain_options_are_what_yaml_would_give_and_read_as_the_same():
    plain = Whole(values=(1, 2)).plain()
    assert plain["values"] == [1, 2]
    assert plain["part"] == {"count": 1}
    assert plain["kind"] is None
    assert "parts" not in plain  # left out, and no null
    assert read_options(Whole, plain, "config") == Whole(values=(1, 2))
    assert Whole(part=None).plain()["part"] is None


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"layr": 1}, r"unknown key 'layr'; did you mean layer? allowed: "),
        ({1: 2}, "unknown key 1; allowed: "),
        ({"part": {"size": 1}}, "part: unknown key 'size'; allowed: count"),
        ({"layer": -1}, "layer: -1; must be at least 0"),
        ({"layer": "first"}, "layer: 'first'; allowed: an integer from 0 or auto"),
        ({"layer": True}, "layer: True is not of type integer or string (The layer, from 0.)"),
        ({"layer": None}, "layer: None is not of type integer or string (The layer, from 0.)"),
        ({"layer": 1.5}, "layer: 1.5 is not of type integer or string (The layer, from 0.)"),
        ({"share": 0}, "share: 0; must be more than 0"),
        ({"share": 1.5}, "share: 1.5; must be at most 1"),
        ({"share": "half"}, "share: 'half' is not of type number"),
        ({"share": False}, "share: False is not of type number"),
        ({"values": 1}, "values: 1 is not of type array; write [1]"),
        ({"values": "12"}, """values: '12' is not of type array; write ["12"]"""),
        ({"values": "twelve"}, "values: 'twelve' is not of type array"),
        ({"names": "ä"}, """names: 'ä'; allowed: auto or a list of texts; write ["ä"]"""),
        ({"values": []}, "values: [] has 0 entries; at least 1"),
        ({"values": [1, 2, 3, 4]}, "values: 4 entries; at most 3"),
        ({"values": [1, 0.5, "5e-1"]}, "values: duplicate value 0.5"),
        ({"values": [1, float("nan")]}, "values[2]: nan is not a finite number"),
        ({"values": ["inf"]}, "values[1]: 'inf' is not a finite number"),
        ({"values": [10**400]}, "values[1]: an integer of 401 digits is too large"),
        ({"layer": 10**400}, "layer: an integer of 401 digits is too large"),
        ({"threshold": "high"}, "threshold: 'high' is not of type number or array"),
        ({"threshold": [1]}, "threshold: [1] has 1 entries; at least 2"),
        ({"on": 1}, "on: 1 is not of type boolean"),
        ({"kind": "c"}, "kind: 'c'; allowed: a, b, null"),
        ({"kind": 3}, "kind: 3; allowed: a, b, null"),
        ({"title": " "}, "title: ' ' is an empty text"),
        ({"title": 3}, "title: 3 is not of type string"),
        ({"palette": ""}, "palette: '' is an empty text"),
        ({"prompt": "{a}{c}"}, "prompt: '{a}{c}' lacks {b}"),
        ({"prompt": "{a}{b}"}, "prompt: '{a}{b}' lacks {c} or {d}"),
        ({"part": 3}, "part: 3 is not of type object or null"),
        ({"part": {"count": "x"}}, "part.count: 'x' is not of type integer (How many.)"),
        ({"parts": {"count": "x"}}, "parts.count: 'x' is not of type integer (How many.)"),
        ({"parts": [{}, {"size": 1}]}, "parts[2]: unknown key 'size'; allowed: count"),
        ({"parts": None}, "parts: None is not of type object or array"),
        ({"numbers": {"a": "x"}}, "numbers.a: 'x' is not of type number"),
        ({"numbers": {1: 2}}, "numbers: 1 is not of type string"),
        ({"entries": {"m": {}}}, "entries.m: missing key(s): source"),
        ({"entries": {"m": {"source": "ftp"}}}, "entries.m.source: 'ftp'; allowed: path, hub"),
        ({"entries": {"m": {"source": "path"}}}, "entries.m: missing key(s): path"),
        ({"entries": {"m": {"source": "hub", "repo": "a"}}},
         "entries.m.repo: 'a'; allowed: owner/name"),
        ({"entries": {"m": 1}}, "entries.m: 1 is not of type object"),
        (None, "None is not of type object"),
        ([1], "[1] is not of type object"),
    ],
    ids=str,
)  # fmt: skip
def test_a_problem_is_one_line(values, line):
    (found,) = problems(values)
    assert found.startswith(line) if line.endswith("allowed: ") else found == line


def test_all_problems_are_reported():
    found = problems({"layer": -1, "values": [None, True], "part": {"size": 1}, "titel": "x"})
    assert found == [
        "layer: -1; must be at least 0",
        "values[1]: None is not of type number",
        "values[2]: True is not of type number",
        "part: unknown key 'size'; allowed: count",
        next(line for line in found if line.startswith("unknown key 'titel'; did you mean title?")),
    ]


def test_a_long_value_is_cut():
    (line,) = problems({"layer": "x" * 200})
    assert line.startswith("layer: 'xxx")
    assert len(line) < 130


def test_what_is_allowed_is_said_in_words():
    said = {name: allowed(Whole.annotation(name)) for name in Whole.model_fields}
    assert said["layer"] == "an integer from 0 or auto"
    assert said["share"] == "a number above 0, at most 1"
    assert said["values"] == "a list of numbers (1 to 3, no duplicates)"
    assert said["threshold"] == "a number or a list of numbers (2)"
    assert said["part"] == "a table, or null"
    assert said["prompt"] == "text with {a} and {b}, and {c} or {d}"


def test_the_text_below_a_field_documents_it():
    assert documentation(Whole, "layer") == ("A layer of it.", "The layer, from 0.")
    assert documentation(Part, "count") == ("How many.", "How many.")
    assert documentation(Whole, "share") == ("", "")
    schema = TypeAdapter(Whole).json_schema()
    assert schema["properties"]["layer"]["description"] == "The layer, from 0."


def test_what_is_drawn_is_told_from_what_is_scored():
    assert list(drawn_keys(Whole)) == ["palette", "colours"]
    assert "palette" not in Whole().scored()
    assert Whole().scored()["layer"] == "auto"
    assert Whole(layer=3).part_of(Base) == Base(layer=3)
