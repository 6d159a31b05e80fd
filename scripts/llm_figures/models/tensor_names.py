"""Names of tensors in checkpoints that are not weights of the decoder."""

import re

# Towers beside the decoder, for images or sound.
OTHER_TOWER = re.compile(r"vision|visual|image|audio|speech|encoder", re.IGNORECASE)
# Buffers that old checkpoints hold and classes compute: masks, rotary tables, scales of an 8-bit
# cache or of activations in 8 bits.
HARMLESS = re.compile(
    r"(^|\.)(attn|attention|self_attn)\.(masked_)?bias$"
    r"|(^|\.)(rotary_emb|rotary_pos_emb)\.|inv_freq$|(^|\.)(sin|cos)_cached$"
    r"|(^|\.)position_ids$|\.[kv](_proj\.output)?_scale$|\.(input|activation)_scale$"
)
