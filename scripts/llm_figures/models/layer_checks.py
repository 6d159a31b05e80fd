"""Checks of the config's layers and heads against a model's number of them.

They run while the config is read if the model's shape is known by then, else in the first job that
knows it.
"""

from llm_figures.core.errors import UserError

# Sizes that checkpoints of one architecture share; vocabularies may differ.
ARCHITECTURE = (
    "layers",
    "hidden_size",
    "heads",
    "key_value_heads",
    "head_dim",
    "intermediate_size",
    "experts",
)


def check_shape(figures: dict, shape: dict) -> None:
    """Check the layers and heads of figures.

    figures: {figure: its options as plain values}.
    shape: has layers and heads, None if unknown; as from `shape_of` or a model info.

    Raises:
        UserError: a layer or head outside the model.
    """
    for name, options in figures.items():
        for what in ("layer", "head"):
            value = options.get(what)
            count = shape[f"{what}s"]
            if isinstance(value, int) and count is not None and value >= count:
                raise UserError(
                    f"config: figures.{name}.{what}: {value} is outside the model, which has "
                    f"{what}s 0 to {count - 1}"
                )
        for value in (options.get("highlight") or {}).get("layers", []):
            if isinstance(value, int) and shape["layers"] is not None and value > shape["layers"]:
                raise UserError(
                    f"config: figures.{name}.highlight.layers: {value} is outside the model, "
                    f"whose rows are 0 (embeddings) to {shape['layers']}"
                )


def check_choices(choices: dict, shape: dict) -> None:
    """Check the layers and heads of the choices, plain values. shape: as in `check_shape`.

    Raises:
        UserError: a layer or head outside the model.
    """
    for what in ("layer", "head"):
        count = shape[f"{what}s"]
        for number, value in enumerate(choices[what], start=1):
            if isinstance(value, int) and count is not None and value >= count:
                raise UserError(
                    f"config: choices.{what}[{number}]: {value} is outside the model, which has "
                    f"{what}s 0 to {count - 1}"
                )


def check_same_shape(shapes: dict[str, dict | None], other: str, its: dict | None) -> None:
    """Check that the models have the architecture of `other`, as far as their sizes are known.

    Raises:
        UserError: two sizes differ.
    """
    for name, mine in shapes.items():
        for what in ARCHITECTURE if mine and its else ():
            sizes = mine.get(what), its.get(what)
            if None not in sizes and sizes[0] != sizes[1]:
                raise UserError(
                    f"config: figures.module_map.compare_with: {name} and {other} are of different "
                    f"architectures: {what} {sizes[0]} and {sizes[1]}"
                )
