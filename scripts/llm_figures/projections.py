"""How strongly each projection acts on its inputs, for the module map."""

from collections.abc import Sequence
from contextlib import ExitStack

import pandas as pd
import torch
from transformers import PreTrainedModel

from llm_figures.errors import UserError
from llm_figures.models import decoder, decoder_layers, input_device

# Column of the figure -> path of the projection inside a decoder block.
PROJECTIONS = {
    "attn. q": "self_attn.q_proj",
    "attn. k": "self_attn.k_proj",
    "attn. v": "self_attn.v_proj",
    "attn. o": "self_attn.o_proj",
    "mlp. up": "mlp.up_proj",
    "mlp. down": "mlp.down_proj",
    "mlp. gate": "mlp.gate_proj",
}


@torch.inference_mode()
def module_activity(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> pd.DataFrame:
    """What goes in and out of every projection, token by token, in one forward pass.

    texts: token ids of each text; padded on the right, the padding left out.

    One row per text × position × layer × module: `input_norm` ‖x‖, `output_norm` ‖Wx‖ (without
    bias) and `weight_norm` ‖W‖_F.

    Raises:
        UserError: the architecture has other projections than `PROJECTIONS`.
    """
    longest = max(len(text) for text in texts)
    ids = torch.tensor(
        [[*text, *[0] * (longest - len(text))] for text in texts], device=input_device(model)
    )
    real = torch.tensor([[at < len(text) for at in range(longest)] for text in texts])
    text_index, position = (index.numpy() for index in real.nonzero(as_tuple=True))
    frames: list[pd.DataFrame] = []

    def measure(layer: int, name: str):
        def hook(module, args, output):
            linear = output if module.bias is None else output - module.bias
            frames.append(
                pd.DataFrame(
                    {
                        "text": text_index + 1,
                        "position": position,
                        "layer": layer,
                        "module": name,
                        "input_norm": args[0].float().norm(dim=-1).cpu()[real].numpy(),
                        "output_norm": linear.float().norm(dim=-1).cpu()[real].numpy(),
                        "weight_norm": module.weight.float().norm().item(),
                    }
                )
            )

        return hook

    with ExitStack() as hooks:
        for layer, block in enumerate(decoder_layers(model)):
            for name, path in PROJECTIONS.items():
                module = _projection(model, block, name, path)
                hooks.callback(module.register_forward_hook(measure(layer, name)).remove)
        decoder(model)(input_ids=ids, use_cache=False)
    return pd.concat(frames, ignore_index=True)


def _projection(model: PreTrainedModel, block, name: str, path: str) -> torch.nn.Linear:
    try:
        module = block.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, torch.nn.Linear):
        raise UserError(
            f"module_map: models of type {model.config.model_type} have no linear {path} for the "
            f"column {name!r}; the other four figures work without it"
        )
    return module
