"""Read options from plain values, and explain in one line each what is wrong with them."""

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from llm_figures.core.errors import UserError
from llm_figures.core.options import (
    Options,
    allowed,
    by_kind,
    documentation,
    kind_of_type,
    kinds,
    list_branches,
    split_annotation,
)
from llm_figures.core.text_checks import cut, show, value_problems


def read_options(kind: Any, values: Any, where: str) -> Any:
    """`values` as an object of an option class, or of any annotation made of them.

    where: what each message begins with.

    Raises:
        UserError: one line per problem, each naming the key, the value and what is allowed.
    """
    try:
        problems = list(value_problems(values))
    except RecursionError:
        raise UserError(
            f"{where}: nested too deeply, or an alias (*name) refers to a value that contains it"
        ) from None
    if problems:
        raise UserError("\n".join(f"{where}: {problem}" for problem in problems))
    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        problems = dict.fromkeys(_problems(kind, values, error))
        raise UserError("\n".join(f"{where}: {problem}" for problem in problems)) from None


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


class _Place(NamedTuple):
    """Where an error is. whole: all that the value may be; description: of the field it is in."""

    key: str
    whole: Any
    description: str


def _place(kind: Any, loc: tuple[int | str, ...]) -> _Place:
    """Follow pydantic's location, which holds tags of unions, through the annotations."""
    whole, key, description = kind, "", ""
    waiting = list(loc)
    while waiting:
        bare, said = split_annotation(kind)
        branches = list_branches(kind)
        if len(branches) > 1:
            named = [item.discriminator for item in said if isinstance(item, FieldInfo)]
            if named or by_kind in said:
                kind = _chosen(branches, waiting.pop(0), named[0] if named else None)
            else:
                kind = next(branch for branch in branches if branch is not NoneType)
            continue
        part = waiting.pop(0)
        if get_origin(bare) is tuple:
            kind, key = get_args(bare)[0], f"{key}[{int(part) + 1}]"
        elif isinstance(bare, type) and issubclass(bare, Options):
            if part not in bare.model_fields:
                return _Place(f"{key}.{part}".removeprefix("."), kind, description)
            description = documentation(bare, str(part)).text
            kind, key = bare.annotation(str(part)), f"{key}.{part}"
        elif waiting[:1] == ["[key]"]:
            waiting.clear()
            kind = get_args(bare)[0]
        else:
            kind, key = get_args(bare)[1], f"{key}.{part}"
        whole = kind
    return _Place(key.removeprefix("."), whole, description)


def _chosen(branches: tuple[Any, ...], tag: Any, discriminator: Any) -> Any:
    """The branch of a union that pydantic calls `tag`."""
    if discriminator is None:
        return next(branch for branch in branches if kind_of_type(branch) == tag)
    fields = {branch: branch.model_fields[discriminator].annotation for branch in branches}
    return next(branch for branch, values in fields.items() if tag in get_args(values))


def _problems(kind: Any, values: Any, error: ValidationError) -> Iterator[str]:
    missing: dict[str, list[str]] = {}
    for one in error.errors(include_url=False):
        if one["type"] == "missing":
            parent = _place(kind, one["loc"][:-1]).key
            missing.setdefault(parent, []).append(str(one["loc"][-1]))
        elif one["type"] == "union_tag_not_found" and isinstance(one["input"], dict):
            name = one["ctx"]["discriminator"].strip("'")
            missing.setdefault(_place(kind, one["loc"]).key, []).append(name)
        else:
            yield _explained(kind, one)
    for key, names in missing.items():
        yield f"{key}: ".removeprefix(": ") + f"missing key(s): {', '.join(names)}"


def _explained(kind: Any, error: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors."""
    value, ctx = error["input"], error.get("ctx", {})
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown_key(kind, error["loc"])
    place = _place(kind, error["loc"])
    key, whole = place.key, place.whole
    shown = show(value)
    if error["type"] == "union_tag_invalid" and isinstance(value, dict) and "'" in str(ctx):
        name = ctx["discriminator"].strip("'")
        if name in value:
            key, shown = f"{key}.{name}".removeprefix("."), show(value[name])
            return f"{key}: {shown}; allowed: {ctx['expected_tags'].replace(chr(39), '')}"
    at = f"{key}: " if key else ""
    match error["type"]:
        case "refused":
            return f"{at}{shown}{ctx['text']}"
        case "too_large":
            return f"{at}an integer of {ctx['digits']} digits is too large"
        case "duplicate":
            return f"{at}duplicate value {cut(ctx['item'])}"
        case "greater_than_equal":
            return f"{at}{shown}; must be at least {_bound(ctx['ge'])}"
        case "greater_than":
            return f"{at}{shown}; must be more than {_bound(ctx['gt'])}"
        case "less_than_equal":
            return f"{at}{shown}; must be at most {_bound(ctx['le'])}"
        case "too_short":
            return f"{at}{shown} has {ctx['actual_length']} entries; at least {ctx['min_length']}"
        case "too_long":
            return f"{at}{len(value)} entries; at most {ctx['max_length']}"
        case "string_too_short":
            return f"{at}{shown} is an empty text"
        case "string_pattern_mismatch" if ctx["pattern"] == r"\S":
            return f"{at}{shown} is an empty text"
        case "literal_error" | "string_pattern_mismatch":
            return f"{at}{shown}; allowed: {allowed(whole)}{_as_list(whole, value)}"
    about = f" ({place.description})" if place.description else ""
    return f"{at}{shown} is not of type {' or '.join(kinds(whole))}{about}{_as_list(whole, value)}"


def _as_list(kind: Any, value: Any) -> str:
    """What to write where a list of this one value is allowed; "" where it is not."""
    if isinstance(value, list | dict):
        return ""
    try:
        TypeAdapter(kind).validate_python([value])
    except ValidationError:
        return ""
    return f"; write {cut(json.dumps([value], ensure_ascii=False, default=str))}"


def _bound(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown_key(kind: Any, loc: tuple[int | str, ...]) -> str:
    place = _place(kind, loc)
    table, _, _ = place.key.rpartition(".")
    known = sorted(split_annotation(place.whole)[0].model_fields)
    unknown = loc[-1]
    near = difflib.get_close_matches(str(unknown), known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    at = f"{table}: " if table else ""
    return f"{at}unknown key {unknown!r}; {hint}allowed: {', '.join(known)}"
