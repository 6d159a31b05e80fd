"""What a CPU computes faster than torch and transformers have it do: the same numbers, sooner."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def prepare_for_cpu(model: PreTrainedModel) -> None:
    """Let oneDNN compute a model's linear layers, and queries of one group share their keys.

    For a model whose weights are on the CPU; of any other nothing is changed.
    """
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
    """A linear layer whose float32 product is oneDNN's; for all else torch's own.

    torch asks MKL, which is made for another maker's processors: on an AMD EPYC oneDNN was 1.1 to
    1.5 times as fast for blocks, and twice for the logits of a few tokens. As with MKL in its
    strict mode, the bits do not depend on the number of threads, nor a token's on how many are
    computed with it (tests/unit/models/test_cpu_kernels.py,
    tests/unit/inference/test_same_bits.py).
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., features] -> [..., output features]."""
        # The operator, which torch's compiler uses, knows no gradients.
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
    """transformers' `sdpa` attention, without its copies of keys and values for every query head.

    Query heads that share a key-value head (grouped-query attention, Ainslie et al. 2023) become
    further queries of that one head. transformers itself does so for a single token, and under a
    mask copies the keys for more, which after a shared prefix took a tenth of a pass. The bits are
    the same.

    query: [batch, heads, tokens, head_dim]; key, value: [batch, key-value heads, keys, head_dim].
    attention_mask: [batch, 1, tokens, keys].
    """
    batch, heads, tokens, _ = query.shape
    groups = heads // key.shape[1]
    # anything that is not known here is left to transformers
    plain = all(options.get(name) is None for name in ("position_bias", "softcap", "cache"))
    if groups == 1 or attention_mask is None or attention_mask.shape[1] > 1 or not plain or dropout:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    found = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * tokens, -1),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        scale=scaling,
    )
    return found.reshape(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None
