"""What an attention function adds to the scores of a layer: its mask and position bias.

A causal mask, with or without a sliding window, is kept as a number. Every other one (chunks,
blocks, keys chosen by the model, position biases) is kept as it is.
"""

from collections.abc import Mapping, Sequence

import torch

from llm_figures.core.errors import UserError

# Arguments of an attention function that enter the weights, all of which are captured.
CAPTURED = frozenset({"scaling", "sliding_window", "softcap", "s_aux", "sinks", "position_bias"})
# Arguments that do not: dropout is off, and the others are for kernels of packed sequences, for the
# cache, or repeat in another form what the mask holds (indices of the chosen keys or blocks).
WITHOUT_EFFECT = frozenset(
    {
        *("dropout", "is_causal", "indices", "block_indices", "position_ids", "cache_position"),
        *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"),
        *(
            "input_ids",
            "use_cache",
            "output_attentions",
            "output_hidden_states",
            "output_router_logits",
        ),
        *("num_items_in_batch", "logits_to_keep", "return_dict"),
    }
)
# A bias of more bytes is refused.
BIAS_BYTES = 2**30
# Entries of a mask that are compared at a time.
BLOCK_ENTRIES = 2**22


def check_arguments(options: Mapping, layer: int, model_type: str) -> None:
    """Check that every argument of a layer's attention function is known.

    Raises:
        UserError: an argument that may change the weights in an unknown way.
    """
    known = CAPTURED | WITHOUT_EFFECT
    unknown = sorted(name for name, value in options.items() if name not in known and _set(value))
    if unknown:
        raise UserError(
            f"models of type {model_type} pass {', '.join(unknown)} to the attention of layer "
            f"{layer}, whose effect on the weights is not known, so its maps would be wrong; "
            "choose another model"
        )


def _set(value) -> bool:
    return value is not None and value is not False


# Arguments with a row per query: [1, heads, tokens, any].
BY_QUERY = ("position_bias", "sinks")


def select_rows(options: Mapping, rows: slice | Sequence[int]) -> dict:
    """The arguments of an attention function for some of its queries."""
    selected = dict(options)
    for name in BY_QUERY:
        if (given := options.get(name)) is not None:
            selected[name] = given[:, :, rows]
    return selected


def capture_sinks(module: torch.nn.Module, options: Mapping) -> torch.Tensor | None:
    """The sinks of a layer, [heads] or [heads, tokens], in float32; None without."""
    given = (options.get("s_aux"), options.get("sinks"), getattr(module, "sinks", None))
    sinks = next((one for one in given if one is not None), None)
    if sinks is None:
        return None
    sinks = sinks.detach().float().cpu()
    return sinks[0, ..., 0] if sinks.ndim == 4 else sinks.flatten()


def capture_mask(
    mask: torch.Tensor | None,
    position_bias: torch.Tensor | None,
    heads: int,
    tokens: int,
    window: int | None,
    where: str,
) -> tuple[int | None, torch.Tensor | None]:
    """The window and the bias of a layer in a pass over one text.

    mask: [1, 1 or heads, tokens, at least tokens], True or 0 where a key is visible, as the
        attention function received it; None is a causal mask that the kernel makes by itself.
    position_bias: [1, 1 or heads, tokens, tokens], added to the scores, or None.
    window: that the model named.
    where: how messages begin.

    Returns the window and a bias [1 or heads, tokens, tokens] in float32, -inf where a key is
    hidden. The bias is None where the window, or none, says all.

    Raises:
        UserError: a query that sees a later key or none at all; a bias of more than `BIAS_BYTES`.
    """
    if mask is not None:
        mask = mask[..., :tokens]
        if mask.shape[-2:] != (tokens, tokens):
            raise UserError(f"{where}: its mask has {mask.shape[-2]} rows for {tokens} tokens")
    if position_bias is None:
        if mask is None:
            return window, None
        for candidate in dict.fromkeys([window, None, _count_last(mask)]):
            if candidate != 0 and _is_sliding(mask, candidate):
                return candidate, None
    rows = max(part.shape[1] for part in (mask, position_bias) if part is not None)
    if rows not in (1, heads):
        raise UserError(f"{where}: its mask is made for {rows} heads, not for {heads}")
    if (size := 4 * rows * tokens**2) > BIAS_BYTES:
        longest = int((BIAS_BYTES / 4 / rows) ** 0.5)
        raise UserError(
            f"{where}: this model has a mask or bias of its own for every text, of "
            f"{size / 1e9:.1f} GB for {tokens:,} tokens; use texts of at most {longest:,} tokens"
        )
    return None, _make_bias(mask, position_bias, rows, tokens, window, where)


def _count_last(mask: torch.Tensor) -> int:
    """The number of keys that the last query sees, which is the window if there is one."""
    return int(_visible(mask[:, :1, -1:]).sum())


def _visible(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask == 0


def _is_sliding(mask: torch.Tensor, window: int | None) -> bool:
    """Whether a mask is causal with this window, compared in blocks of rows."""
    heads, tokens = mask.shape[1], mask.shape[-1]
    step = max(1, BLOCK_ENTRIES // (heads * tokens))
    return all(
        bool(
            (
                _visible(mask[:, :, start : start + step])
                == make_sliding(start, min(start + step, tokens), tokens, window, mask.device)
            ).all()
        )
        and _hides(mask[:, :, start : start + step])
        for start in range(0, tokens, step)
    )


def _hides(mask: torch.Tensor) -> bool:
    """Whether every value of a mask of numbers is 0 or hides its key altogether."""
    if mask.dtype == torch.bool:
        return True
    return bool(((mask == 0) | (mask <= torch.finfo(mask.dtype).min / 2)).all())


def make_sliding(
    start: int, stop: int, tokens: int, window: int | None, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Rows start to stop of a causal mask with a window: [rows, tokens], True where visible."""
    distance = torch.arange(start, stop, device=device)[:, None] - torch.arange(
        tokens, device=device
    )
    visible = distance >= 0
    return visible if window is None else visible & (distance < window)


def make_additive(mask: torch.Tensor) -> torch.Tensor:
    """A mask in float32 to be added to scores, -inf where a key is hidden."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
    return mask.float().masked_fill(mask <= torch.finfo(mask.dtype).min / 2, -torch.inf)


def _make_bias(
    mask: torch.Tensor | None,
    position_bias: torch.Tensor | None,
    rows: int,
    tokens: int,
    window: int | None,
    where: str,
) -> torch.Tensor:
    if mask is None:
        mask = make_sliding(0, tokens, tokens, window, position_bias.device)[None, None]
    bias = make_additive(mask)[0]
    if position_bias is not None:
        bias = bias + position_bias[0, ..., :tokens].float()
    bias = bias.expand(rows, tokens, tokens).cpu()
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    seen = bias > -torch.inf
    if bool((seen & later).any()):
        raise UserError(f"{where}: a token attends to later ones; only causal maps are supported")
    if not bool(seen.any(dim=-1).all()):
        raise UserError(f"{where}: a token attends to none, so its weights are not defined")
    return bias
