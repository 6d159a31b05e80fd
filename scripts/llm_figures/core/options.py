"""Option classes: typed, frozen, documented, and strict about keys that they do not know.

A class states each key once, with its type, its default and its meaning. Checks, messages,
config/config.yaml, the JSON schemas and docs/options.md all follow from it.

The text below a field is its documentation: the first paragraph is the comment in config.yaml, the
second, if there is one, is the description in the schema and the reference. Reading the texts takes
the source, so they are looked up only when they are needed.
"""

import ast
import inspect
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

T = TypeVar("T")


class Options(BaseModel):
    """Options of one part of the project.

    A field whose default is None although its type does not allow null may be left out, and is
    then no key of `plain()`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def plain(self) -> dict[str, Any]:
        """The options as nested dicts and lists, as they would be read from YAML."""
        return {
            name: _plain(value)
            for name, value in self
            if value is not None or allows_null(self.annotation(name))
        }

    def changed(self, **values: Any) -> Self:
        """The same options with other values, which are not checked."""
        return self.model_copy(update=values)

    def part_of(self, kind: type["OptionsT"]) -> "OptionsT":
        """The options that a base class declares, as an object of that class."""
        return kind.model_construct(**{name: getattr(self, name) for name in kind.model_fields})

    @classmethod
    def annotation(cls, name: str) -> Any:
        """The annotation of a field, with its bounds."""
        return _annotations(cls)[name]

    def unused(self) -> tuple[str, ...]:
        """Fields that the values of others make irrelevant; config.yaml omits them."""
        return ()

    def scored(self) -> dict[str, Any]:
        """The options that scores depend on: all but those of drawing and the unused ones."""
        left_out = {*self.unused(), *_drawn(type(self))}
        return {key: value for key, value in self.plain().items() if key not in left_out}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        json_schema = handler(schema)
        resolved = handler.resolve_ref_schema(json_schema)
        for name, part in resolved.get("properties", {}).items():
            part.pop("title", None)
            if isinstance(part.get("default"), dict):
                del part["default"]
            if cls.model_fields[name].default is None and not allows_null(cls.annotation(name)):
                part.pop("default", None)
            if text := documentation(cls, name).text:
                part["description"] = text
        return json_schema


OptionsT = TypeVar("OptionsT", bound=Options)


class Drawing(Options):
    """Options that only the drawing of a figure reads: a change of them runs no score again.

    Direct subclasses declare them; a figure's class is composed of those and of what is scored.
    """


def _drawn(cls: type[Options]) -> set[str]:
    """Fields that classes for drawing alone declare."""
    return {name for kind in cls.__mro__ if Drawing in kind.__bases__ for name in kind.model_fields}


def drawn_keys(cls: type[Options], under: str = "") -> Iterator[str]:
    """Keys that only drawing reads, with dots between levels; a section stands for all below it."""
    for name in cls.model_fields:
        section = options_of(cls.annotation(name))
        if name in _drawn(cls) or (section and Drawing in section.__bases__):
            yield f"{under}{name}"
        elif section:
            yield from drawn_keys(section, f"{under}{name}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


# Types of values.


@dataclass(frozen=True)
class Says:
    """What a type allows, in words for messages and the reference."""

    text: str


def refusal(text: str) -> PydanticCustomError:
    """The error of a validator of ours. text: what follows the key and the value."""
    return PydanticCustomError("refused", "{text}", {"text": text})


def _size_checked(value: Any) -> Any:
    """A bool is no number here, and a number must fit a float."""
    if isinstance(value, bool):
        raise PydanticCustomError("wrong_type", "wrong type")
    if isinstance(value, float) and not math.isfinite(value):
        raise refusal(" is not a finite number")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise _too_large(value)
    return value


def _too_large(value: int) -> PydanticCustomError:
    return PydanticCustomError("too_large", "{digits}", {"digits": len(str(abs(value)))})


def _number_of_text(value: Any) -> Any:
    """1e-3 is text to YAML 1.1."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _integer_of_text(value: Any) -> Any:
    """Snakemake's --config takes the numbers of a table for text: 'dataset={limit: 50}'."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value) else value


def _checked_number(value: Any, check) -> Any:
    """A number of either type stays what it is: 1 does not become 1.0."""
    value = _size_checked(_number_of_text(value))
    check(value)
    return value


def _whole_number(value: Any) -> Any:
    """An integer must fit 64 bits, as it does in files."""
    value = _size_checked(_integer_of_text(value))
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _too_large(value)
    return value


def _flag_of_text(value: Any) -> Any:
    """Snakemake's --config takes true for text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Number = Annotated[float, Strict(), WrapValidator(_checked_number)]
Integer = Annotated[int, Strict(), BeforeValidator(_whole_number)]
# Of NumPy's and scikit-learn's random numbers.
Seed = Annotated[Integer, Field(ge=0, le=2**32 - 1)]
Flag = Annotated[bool, Strict(), BeforeValidator(_flag_of_text)]
AnyText = Annotated[str, Strict()]
NonEmpty = Annotated[str, Strict(), Field(min_length=1)]
Text = Annotated[str, Strict(), Field(pattern=r"\S")]


@dataclass(frozen=True)
class Items:
    """A list, kept as a tuple: Annotated[tuple[Number, ...], Items(1, 8, distinct=True)]."""

    at_least: int = 0
    at_most: int | None = None
    distinct: bool = False

    def __get_pydantic_core_schema__(self, source, handler):
        items = core_schema.list_schema(
            handler.generate_schema(get_args(source)[0]),
            min_length=self.at_least or None,
            max_length=self.at_most,
            strict=True,
        )
        listed = core_schema.no_info_before_validator_function(
            lambda value: list(value) if isinstance(value, tuple) else value, items
        )
        return core_schema.no_info_after_validator_function(
            self._checked,
            listed,
            serialization=core_schema.plain_serializer_function_ser_schema(_plain),
        )

    def __get_pydantic_json_schema__(self, schema, handler):
        return handler(schema) | ({"uniqueItems": True} if self.distinct else {})

    def _checked(self, items: list) -> tuple:
        twice = [item for item in items if items.count(item) > 1] if self.distinct else []
        if twice:
            raise PydanticCustomError("duplicate", "{item}", {"item": repr(twice[0])})
        return tuple(items)


@dataclass(frozen=True)
class Holds:
    """Text that must hold all of these strings, or any of them."""

    strings: tuple[str, ...]
    any_of: bool = False

    def __str__(self) -> str:
        return (" or " if self.any_of else " and ").join(self.strings)

    def __get_pydantic_core_schema__(self, source, handler):
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema, handler):
        json_schema = handler(schema)
        escaped = [re.escape(string) for string in self.strings]
        patterns = ["|".join(escaped)] if self.any_of else escaped
        every = json_schema.get("allOf", []) + [{"pattern": pattern} for pattern in patterns]
        return json_schema | {"allOf": every}

    def _check(self, text: str) -> str:
        missing = [string for string in self.strings if string not in text]
        if self.any_of and len(missing) == len(self.strings):
            raise refusal(f" lacks {self}")
        if missing and not self.any_of:
            raise refusal(f" lacks {' and '.join(missing)}")
        return text


class _ByKind:
    """Marks a union whose branch is chosen by the kind of the value, so that errors are of one."""

    def __get_pydantic_core_schema__(self, source, handler):
        branches = {kind_of_type(branch): branch for branch in get_args(source)}
        numbers = kinds(branches["number"]) if "number" in branches else ()
        # where text has a meaning of its own (12.5% of the depth), 12 in quotes may be a slip
        words = "string" not in branches or get_origin(branches["string"]) is Literal

        def kind_of(value: Any) -> str:
            if "number" in numbers:
                value = _number_of_text(value)
            elif numbers and words:
                value = _integer_of_text(value)
            return next((name for name, kind in _KINDS.items() if isinstance(value, kind)), "other")

        return core_schema.tagged_union_schema(
            {kind: handler.generate_schema(branch) for kind, branch in branches.items()},
            discriminator=kind_of,
        )


by_kind = _ByKind()
# In this order: a bool is an int to Python.
_KINDS: dict[str, Any] = {
    "null": NoneType,
    "boolean": bool,
    "number": int | float,
    "string": str,
    "array": list | tuple,
    "object": dict | BaseModel,
}


def split_annotation(annotation: Any) -> tuple[Any, list[Any]]:
    """The type of an annotation, and what is said about it."""
    said: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for item in metadata:
            said += item.metadata or [item] if isinstance(item, FieldInfo) else [item]
    return annotation, said


def list_branches(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; the annotation itself if it is none."""
    kind, _ = split_annotation(annotation)
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (annotation,)


def kinds(annotation: Any) -> list[str]:
    """What JSON calls the types that an annotation allows."""
    found: list[str] = []
    for branch in list_branches(annotation):
        kind, _ = split_annotation(branch)
        if get_origin(kind) is Literal:
            values = get_args(kind)
            found += [
                name
                for name, type_ in _KINDS.items()
                if any(isinstance(value, type_) for value in values)
            ]
        elif len(list_branches(branch)) > 1:
            found += kinds(branch)
        elif get_origin(kind) is tuple:
            found.append("array")
        elif kind in (None, NoneType):
            found.append("null")
        elif kind in (bool, int, float, str):
            names = {bool: "boolean", int: "integer", float: "number", str: "string"}
            found.append(names[kind])
        else:
            found.append("object")
    return list(dict.fromkeys(found))


def kind_of_type(annotation: Any) -> str:
    kind = kinds(annotation)[0]
    return "number" if kind == "integer" else kind


def allows_null(annotation: Any) -> bool:
    """Whether null is one of the values."""
    return "null" in kinds(annotation)


def options_of(annotation: Any) -> type[Options] | None:
    """The option class of a field with a section of its own, null or not."""
    for branch in list_branches(annotation):
        kind, _ = split_annotation(branch)
        if isinstance(kind, type) and issubclass(kind, Options):
            return kind
    return None


def allowed(annotation: Any) -> str:
    """What an annotation allows, in words."""
    kind, said = split_annotation(annotation)
    words = [item.text for item in said if isinstance(item, Says)]
    if words:
        return words[-1]
    branches = list_branches(annotation)
    if len(branches) > 1:
        parts = [allowed(branch) for branch in branches if branch is not NoneType]
        return " or ".join(parts) + (", or null" if len(parts) < len(branches) else "")
    if get_origin(kind) is Literal:
        return ", ".join(_shown(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        return _allowed_list(kind, said)
    if kind in (int, float):
        return {int: "an integer", float: "a number"}[kind] + _bounds(said)
    if kind is bool:
        return "true or false"
    if kind is not str:
        return "a table"
    held = [str(item) for item in said if isinstance(item, Holds)]
    return f"text with {', and '.join(held)}" if held else "text"


def _allowed_list(kind: Any, said: list[Any]) -> str:
    items = next(item for item in said if isinstance(item, Items))
    inner = allowed(get_args(kind)[0])
    plural = {"text": "texts", "a table": "tables", "a number": "numbers", "an integer": "integers"}
    limits = []
    if items.at_most == items.at_least:
        limits.append(str(items.at_most))
    elif items.at_most:
        limits.append(f"{items.at_least} to {items.at_most}")
    elif items.at_least:
        limits.append(f"at least {items.at_least}")
    if items.distinct:
        limits.append("no duplicates")
    of = f", each {inner}" if inner.startswith(("a ", "an ")) else f" of {inner}"
    what = f" of {plural[inner]}" if inner in plural else of
    return f"a list{what}" + (f" ({', '.join(limits)})" if limits else "")


def _bounds(said: list[Any]) -> str:
    found = {
        name: getattr(item, name)
        for item in said
        for name in ("ge", "gt", "le")
        if hasattr(item, name)
    }
    match found:
        case {"ge": low, "le": high}:
            return f" from {low} to {high}"
        case {"gt": low, "le": high}:
            return f" above {low}, at most {high}"
        case {"ge": low}:
            return f" from {low}"
        case {"gt": low}:
            return f" above {low}"
    return ""


def _shown(value: Any) -> str:
    """A value as YAML has it."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


@cache
def _annotations(cls: type[Options]) -> dict[str, Any]:
    return {
        name: annotation
        for name, annotation in type_hints(cls, include_extras=True).items()
        if name in cls.model_fields
    }


# Documentation of fields.


class Documentation(NamedTuple):
    """comment: for config.yaml, often a fragment. text: for the schema and the reference."""

    comment: str
    text: str


def declaring(cls: type[Options], name: str) -> list[type[Options]]:
    """The classes that declare a field: the most special first, the one it comes from last."""
    return [
        kind
        for kind in cls.__mro__
        if issubclass(kind, Options) and name in inspect.get_annotations(kind)
    ]


def documentation(cls: type[Options], name: str) -> Documentation:
    """What is written below a field in its class, or in the class that declares it first.

    A section without such a text is described by the docstring of its class.
    """
    for kind in declaring(cls, name):
        text = _texts(kind.__module__).get((kind.__name__, name))
        if text is not None:
            first, *rest = (" ".join(part.split()) for part in text.split("\n\n"))
            return Documentation(first, " ".join(rest) or first)
    section = options_of(cls.annotation(name))
    text = " ".join((section.__doc__ or "").split()) if section else ""
    return Documentation(text, text)


@cache
def _texts(module: str) -> dict[tuple[str, str], str]:
    """{(class, field): text} of a module."""
    found: dict[tuple[str, str], str] = {}
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # made in a console
        return found
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in zip(cls.body, cls.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                    value=ast.Constant(value=str(text))
                ):
                    found[cls.name, name] = inspect.cleandoc(text)
    return found
