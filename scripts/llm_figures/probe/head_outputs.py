"""Where the outputs of the attention heads are in a loaded model.

Attention concatenates what its heads give, each head's weights times its values, and the output
projection, `attn. o`, adds them up. Its input thus holds the output of every head, in order (Li et
al. 2023, arXiv 2306.03341). Where a family gates the heads' outputs or norms them, that has been
done by then.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.models.loading import decoder_layers
from llm_figures.models.projection_families import layout_of
from llm_figures.models.projection_layouts import O, heads_of

# Names that attention modules give to the size of a head's output and to the number of heads.
SIZES = ("v_head_dim", "head_dim", "head_size")
COUNTS = ("num_heads", "num_attention_heads", "n_heads")
# A parameter of differential attention (DiffLlama): two heads are subtracted from one another and
# give one output of twice the size.
OF_PAIRS = "lambda_q1"


@dataclass(frozen=True)
class HeadOutputs:
    """The output projection of one block: its input is [..., count × size], head by head."""

    module: torch.nn.Module
    count: int
    size: int


def find_head_outputs(model: PreTrainedModel) -> dict[int, HeadOutputs]:
    """{layer, counted from 1: its heads}; blocks without attention, as hybrids have, are left out.

    Raises:
        UserError: a block keeps its output projection in an unknown place; its input cannot be
            divided among the heads; no block has heads.
    """
    config = model.config.get_text_config(decoder=True).to_dict()
    kind, layout = config.get("model_type"), layout_of(config.get("model_type"))
    expected = {place.path for place in layout.attentions[0].values()}
    blocks = decoder_layers(model)
    shared = len(blocks) - (config.get("num_kv_shared_layers") or 0)
    found = {}
    for layer, block in enumerate(blocks, start=1):
        shapes = {name: tuple(weights.shape) for name, weights in block.named_parameters()}
        places, lacking = layout.find_places(shapes, layout.shares and layer > shared)
        if O in places:
            place = places[O]
            width = shapes[place.weight][0 if place.transposed else 1]
            module = block.get_submodule(place.path)
            parent = block.get_submodule(place.path.rpartition(".")[0])
            found[layer] = HeadOutputs(module, *_divide(parent, width, config, layer))
        elif expected & set(lacking):
            raise UserError(
                f"config: probe.site: head: layer {layer} of models of type {kind} has no "
                f"{' or '.join(sorted(expected & set(lacking)))}, and where it keeps the outputs "
                "of its heads is not known; use another site"
            )
    if not found:
        raise UserError(
            f"config: probe.site: head: no layer of models of type {kind} has attention heads; use "
            "residual"
        )
    return found


def find_head_shapes(model: PreTrainedModel, site: str) -> dict[int, tuple[int, int]] | None:
    """{layer: (heads, size of each)} for the site "head", see `schema`; None for any other.

    Raises:
        UserError: as `find_head_outputs`.
    """
    if site != "head":
        return None
    return {layer: (one.count, one.size) for layer, one in find_head_outputs(model).items()}


def _divide(attention: torch.nn.Module, width: int, config: dict, layer: int) -> tuple[int, int]:
    """Number of heads and the size of each head's output; width: of all.

    The block itself says more than the config, for some families have blocks of several kinds.
    """
    size = _read_number(attention, SIZES)
    count = _read_number(attention, COUNTS) or heads_of(config).query
    if hasattr(attention, OF_PAIRS):
        count, size = count // 2, size and 2 * size
    if size is None and width % count == 0:
        size = width // count
    if size is None or count * size != width:
        raise UserError(
            f"config: probe.site: head: the outputs of the heads of layer {layer} are {width} "
            f"numbers, which are not {count} heads of {size or 'equal size'}; use another site"
        )
    return count, size


def _read_number(module: torch.nn.Module, names: tuple[str, ...]) -> int | None:
    values = (getattr(module, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)
