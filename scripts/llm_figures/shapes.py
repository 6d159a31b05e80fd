"""What is known of a model without loading it, and what the config must agree on with it."""

from pathlib import Path

from llm_figures.errors import UserError


def shape_of(config: dict) -> dict:
    """Layers, heads and hidden size from a model's config.json, whatever the family calls them."""
    names = {
        "layers": ("num_hidden_layers", "n_layer"),
        "heads": ("num_attention_heads", "n_head"),
        "hidden_size": ("hidden_size", "n_embd"),
    }
    return {
        what: next((config[key] for key in keys if key in config), None)
        for what, keys in names.items()
    }


def check_shape(figures: dict, shape: dict) -> None:
    """Check layers and heads against a model's number of them.

    shape: layers, heads (None where unknown), as from `shape_of` or a model's card.

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


def check_folder(folder: Path, where: str) -> None:
    """A folder that looks like a transformers model.

    Raises:
        UserError: the folder or its config.json is missing; begins with `where`.
    """
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: no config.json there; it must be a transformers model folder")
