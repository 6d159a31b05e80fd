"""CPU fast paths: oneDNN linear layers, copy-free grouped-query attention."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def prepare_for_cpu(model: PreTrainedModel) -> None:
    """Switch a model to the fast paths, if all its weights are on the CPU."""
    if any(weights.device.type != "cpu" for weights in model.parameters()):
        return
    AttentionInterface.register("sdpa", grouped_attention)
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not of torch's public interface
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """A linear layer that computes float32 products with oneDNN, and others as torch does.

    By default torch uses MKL. On an AMD EPYC, oneDNN was 1.1 to 1.5 times as fast for blocks, and
    twice as fast for the logits of a few tokens. As with MKL in its strict mode, the bits depend
    neither on the number of threads nor on the other tokens of the batch
    (tests/unit/models/test_cpu_kernels.py, tests/unit/inference/test_same_bits.py).
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., features] -> [..., output features]."""
        # the operator is that of torch's compiler and has no gradient
        if torch.is_grad_enabled() or not (input.dtype is self.weight.dtype is torch.float32):
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options,
) -> tuple[Tensor, None]:
    """transformers' `sdpa` attention without copies of keys and values for every query head.

    Query heads that share a key-value head (grouped-query attention, Ainslie et al. 2023) become
    further queries of that head. transformers does so for a single token; for more it copies the
    keys where there is a mask, which took a tenth of a pass after a shared prefix. The bits are
    the same.

    query: [batch, heads, tokens, head_dim]; key, value: [batch, key-value heads, keys, head_dim].
    attention_mask: [batch, 1, tokens, keys]. Returns [batch, tokens, heads, head_dim].
    """
    batch, heads, tokens, _ = query.shape
    groups = heads // key.shape[1]
    # transformers handles all other cases
    plain = all(options.get(name) is None for name in ("position_bias", "softcap", "cache"))
    if groups == 1 or attention_mask is None or attention_mask.shape[1] > 1 or not plain or dropout:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    output = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * tokens, -1),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        scale=scaling,
    )
    return output.reshape(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None
