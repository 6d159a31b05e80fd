"""The five figures, in the order of the report."""

ATTENTION_FIGURES = ("mean_qkv", "mean_qkv_tokens", "scale_qkv")
FIGURES = (*ATTENTION_FIGURES, "probe_auc", "module_map")
