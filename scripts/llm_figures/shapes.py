"""What the config and the model must agree on: layers and heads."""

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
