"""Write config/config.yaml, the JSON schemas and docs/options.md from the option classes.

python -m llm_figures.workflow.generate_config [folder of the project]
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from llm_figures.claims.claim import (
    Claim,
    ClaimsFile,
    Panels,
    Partner,
    PublishedAttention,
    PublishedTable,
    Region,
)
from llm_figures.core.options import (
    Options,
    allowed,
    allows_null,
    declaring,
    documentation,
    options_of,
)
from llm_figures.models.options import ModelEntry, ModelName, Shape, WheelPart
from llm_figures.workflow.config import Config

WIDTH = 100
# A text of several lines that is shorter stands on one line, in quotes.
SHORT = 60
HEADER = """\
# yaml-language-server: $schema=../workflow/schemas/config.schema.json
# Every option and its default; docs/options.md says what each means and allows.
# Change this file, or lay another over it:  snakemake figures --configfile my.yaml
# (`make config` writes it from the option classes in scripts/llm_figures/*/options.py.)
"""
INTRODUCTION = """\
# Options

Every option of [config/config.yaml](../config/config.yaml). Change that file, or lay a file of your
own over it: `snakemake figures --configfile my.yaml`. Unknown keys are refused at every level. One,
or a value that is not allowed, stops the run before any job, with one line that names the key.

`make config` writes this page, config.yaml and the JSON schemas from the option classes.
"""
SCHEMAS = {
    "config": Config,
    "models": dict[ModelName, ModelEntry],
    "claims": ClaimsFile,
}


def generate_files() -> dict[str, str]:
    """{path in the project: content} of every file that follows from the option classes."""
    return {
        "config/config.yaml": format_config(Config()),
        "docs/options.md": format_reference(Config()),
    } | {
        f"workflow/schemas/{name}.schema.json": format_schema(kind, f"config/{name}.yaml")
        for name, kind in SCHEMAS.items()
    }


# YAML.


def format_config(config: Options) -> str:
    """All options with their comments; sections and long values are set off by empty lines."""
    parts: list[list[str]] = [[]]
    documented: set[tuple[type, str]] = set()
    for name in _shown_fields(config):
        value, comment = getattr(config, name), _comment(config, name, documented)
        lines = _entry(name, value, "", "", documented)
        if len(lines) == 1:
            parts[-1] += _with_comment(lines, comment, "")
        else:
            parts += [[*_comment_above(comment, ""), *lines], []]
    return "\n".join([HEADER, *("\n".join(part) + "\n" for part in parts if part)])


def _shown_fields(options: Options) -> list[str]:
    return [name for name in type(options).model_fields if name not in options.unused()]


def _comment(options: Options, name: str, documented: set[tuple[type, str]]) -> str:
    """What is written below a field; only where it appears for the first time."""
    key = declaring(type(options), name)[-1], name
    if key in documented:
        return ""
    documented.add(key)
    return documentation(type(options), name).comment


def _entry(name: str, value: Any, comment: str, pad: str, documented: set) -> list[str]:
    """The lines of one key."""
    start = f"{pad}{name}:"
    if isinstance(value, Options):
        lines = _with_comment([start], comment, pad)
        for key in _shown_fields(value):
            about = _comment(value, key, documented)
            lines += _entry(key, getattr(value, key), about, pad + "  ", documented)
        return lines
    if isinstance(value, str) and "\n" in value and len(value) > SHORT:
        ends = len(value) - len(value.rstrip("\n"))
        head = _with_comment(
            [f"{start} |{'-' if not ends else '+' if ends > 1 else ''}"], comment, pad
        )
        return head + _indented(value.removesuffix("\n"), pad)
    if isinstance(value, dict) and value:  # of options by a name: what differs from the defaults
        lines = _with_comment([start], comment, pad)
        return lines + [
            f"{pad}  {key}: {format_value(_changed(one))}" for key, one in value.items()
        ]
    whole = f"{start} {format_value(value)}"
    if isinstance(value, tuple) and len(whole) > WIDTH:
        items = [line for item in value for line in _item(item, pad + "  ")]
        return [*_with_comment([start], comment, pad), *items]
    return _with_comment([whole], comment, pad)


def _changed(options: Options) -> dict[str, Any]:
    """The options that are not the defaults of their class."""
    fields = type(options).model_fields
    return {name: value for name, value in options.plain().items() if value != fields[name].default}


def _item(text: str, pad: str) -> list[str]:
    """One long text of a list."""
    line = f"{pad}- {format_value(text, flow=False)}"
    if len(line) <= WIDTH:
        return [line]
    folded = textwrap.wrap(text, WIDTH - len(pad) - 2, break_on_hyphens=False)
    return [f"{pad}- >-", *(f"{pad}  {part}" for part in folded)]


def _indented(text: str, pad: str) -> list[str]:
    return [f"{pad}  {line}" if line else "" for line in text.split("\n")]


def _with_comment(lines: list[str], comment: str, pad: str) -> list[str]:
    """The comment at the end of the first line if there is room, else above it."""
    beside = f"{lines[0]} # {comment.removesuffix('.')}"
    if comment and len(beside) <= WIDTH:
        return [beside, *lines[1:]]
    return [*_comment_above(comment, pad), *lines]


def _comment_above(comment: str, pad: str) -> list[str]:
    return [f"{pad}# {line}" for line in textwrap.wrap(comment, WIDTH - len(pad) - 2)]


def format_value(value: Any, flow: bool = True) -> str:
    """A value on one line of YAML. flow: it may stand within brackets."""
    if isinstance(value, Options):
        return format_value(value.plain())
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}{'.0' * ('.' not in mantissa)}{e}{exponent}"
    if not isinstance(value, str):
        return json.dumps(value)
    quoted = json.dumps(value, ensure_ascii=False)
    try:
        plain = yaml.safe_load(f"[{value}]" if flow else f"- {value}") == [value]
    except yaml.YAMLError:
        return quoted
    return value if plain else quoted


# The JSON schemas.


def format_schema(kind: Any, title: str) -> str:
    """The JSON schema of an option class, or of an annotation made of them."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    schema = head | _standard(TypeAdapter(kind).json_schema()) | {"title": title}
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    short = re.compile(r"\[\s+([^][{}]{,80}?)\s+\]")
    return short.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _standard(schema: Any) -> Any:
    """The schema with the standard's names of bounds, and without titles that repeat names."""
    if isinstance(schema, list):
        return [_standard(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}
    return {
        names.get(key, key): " ".join(part.split()) if key == "description" else _standard(part)
        for key, part in schema.items()
        if not (key == "title" and isinstance(part, str))
    }


# The reference.


def format_reference(config: Options) -> str:
    """docs/options.md: a table for every section."""
    parts = [INTRODUCTION, *_sections("", config, {})]
    parts.append(
        "## Models\n\nEntries of [config/models.yaml](../config/models.yaml) and of "
        "`model_sources`, by their `source`.\n"
    )
    for kind in get_args(get_args(ModelEntry)[0]):
        (source,) = get_args(kind.annotation("source"))
        parts += [f"### source: {source}\n\n{_about(kind)}\n", _table(kind, None)]
    parts += [f"### parts[…]\n\n{_about(WheelPart)}\n", _table(WheelPart, None)]
    parts += [f"### shape\n\n{_about(Shape)}\n", _table(Shape, None)]
    parts.append(
        "## Files of claims\n\n[config/claims.yaml](../config/claims.yaml), and files of your own "
        "in `claims.files`: a table `published` of what the published figures were, by figure, and "
        "a list `claims`.\n"
    )
    for name, kind in (
        ("claims[…]", Claim),
        ("panels", Panels),
        ("cells", Region),
        ("minus, versus", Partner),
        ("published, an attention figure", PublishedAttention),
        ("published, a table", PublishedTable),
    ):
        parts += [f"### {name}\n\n{_about(kind)}\n", _table(kind, None)]
    return "\n".join(parts)


def _sections(path: str, options: Options, seen: dict[tuple[str, ...], str]) -> Iterator[str]:
    """The heading and table of one section, then those of the sections in it."""
    kind = type(options)
    fields = tuple(kind.model_fields)
    sections = {
        name: part for name in fields if isinstance(part := getattr(options, name), Options)
    }
    heading = f"{'##' if '.' not in path else '###'} {path or 'Models, texts and devices'}"
    yield f"{heading}\n\n{_about(kind)}\n" if path else f"{heading}\n"
    if fields in seen:
        others = [
            f"`{name}: {format_value(getattr(options, name))}`"
            for name in fields
            if declaring(kind, name)[0] is kind
        ]
        yield f"The keys are those of {seen[fields]}, with another default: {', '.join(others)}.\n"
        return
    seen[fields] = path
    if len(sections) < len(fields):
        yield _table(kind, options)
    for name, part in sections.items():
        yield from _sections(f"{path}.{name}".removeprefix("."), part, seen)


def _about(kind: type[Options]) -> str:
    return _escaped(" ".join((kind.__doc__ or "").split()))


def _table(kind: type[Options], options: Options | None) -> str:
    """Key, what is allowed, default and meaning; sections have a table of their own."""
    rows = [
        f"| `{name}` | {_escaped(allowed(kind.annotation(name)))} | {_default(kind, name)} "
        f"| {_escaped(documentation(kind, name).text)} |"
        for name in kind.model_fields
        if not (options and isinstance(getattr(options, name), Options) and not _null(kind, name))
    ]
    head = ["| key | allowed | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _null(kind: type[Options], name: str) -> bool:
    return allows_null(kind.annotation(name))


def _default(kind: type[Options], name: str) -> str:
    value = kind.model_fields[name].get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None and not _null(kind, name):
        return ""
    if options_of(kind.annotation(name)):
        return "see below"
    text = format_value(value)
    if len(text) > SHORT:
        return "see config.yaml"
    return f"`{text}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    """Markdown takes none of it for markup."""
    for character in "|*<":
        text = text.replace(character, f"\\{character}")
    return text


def main(folder: str = ".") -> None:
    """Write all files below a folder of the project."""
    for name, content in generate_files().items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
