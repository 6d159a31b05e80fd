"""Layers and heads that the config names, checked against a model once its size is known.

While the config is read, that is the case for some models; for the others, and for `auto` values,
the first job that knows the model checks them.
"""

from llm_figures.core.errors import UserError


def check_shape(figures: dict, shape: dict) -> None:
    """Check layers and heads against a model's number of them.

    shape: layers, heads (None where unknown), as from `shape_of` or a model's info.

    Raises:
        UserError: a layer or head outside the model.
    """
    for name, options in figures.items():
        places = {"layer": options.get("layer"), "head": options.get("head")}
        for what, value in places.items():
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
    """Check the layers and heads of the choices against a model's number of them.

    shape: as in `check_shape`.

    Raises:
        UserError: a layer or head outside the model.
    """
    for what in ("layer", "head"):
        count = shape[f"{what}s"]
        for place, value in enumerate(choices[what], start=1):
            if isinstance(value, int) and count is not None and value >= count:
                raise UserError(
                    f"config: choices.{what}[{place}]: {value} is outside the model, which has "
                    f"{what}s 0 to {count - 1}"
                )
