"""Check before any job what the drawing would refuse: palettes, and the font."""

from collections.abc import Iterator

from llm_figures.core.errors import UserError
from llm_figures.core.options import Options
from llm_figures.plotting.style import LinePalette, Palette, Style

LINES = 8  # colours that are asked of a palette of lines


def check_look(config: Options) -> None:
    """Check every palette and font of a config that differs from its default.

    matplotlib is imported only where there is one.

    Raises:
        UserError: all that are not known, one line each.
    """
    chosen = list(_list_chosen(config))
    if not chosen:
        return
    try:
        from llm_figures.plotting.drawing import check_font, find_colour_map, find_colours
    except ImportError:  # where only jobs have it, in an environment of their own
        return
    problems = []
    for key, value, kind in chosen:
        try:
            if kind == Palette:
                find_colour_map(value, key)
            elif kind == LinePalette:
                find_colours(value, LINES, key)
            else:
                check_font(value)
        except UserError as problem:
            problems.append(str(problem))
    if problems:
        raise UserError("\n".join(problems))


def _list_chosen(options: Options, under: str = "") -> Iterator[tuple[str, str, object]]:
    """(dotted key, value, annotation) of palettes and fonts that differ from their defaults."""
    kind = type(options)
    for name, field in kind.model_fields.items():
        value, annotation, key = getattr(options, name), kind.annotation(name), f"{under}{name}"
        if isinstance(value, Options):
            yield from _list_chosen(value, f"{key}.")
        elif value == field.default:
            continue
        elif annotation in (Palette, LinePalette) or (kind is Style and name == "font"):
            yield key, value, annotation
