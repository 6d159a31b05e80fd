"""The library behind the scripts: arrays and frames in, arrays and frames out.

Modules that import torch (`models`, `tap`, `forward`, `generation`) serve the forward stage only;
scoring and rendering never import them, so a changed colour re-renders in seconds.
"""
