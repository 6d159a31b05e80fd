"""The library behind the scripts: arrays and frames in, arrays and frames out.

Only modules of the forward stage import torch (such as `models.loading`, `attention.attention_hook`
and `inference.generation`). Scoring and drawing never do, so a changed colour takes seconds.
"""
