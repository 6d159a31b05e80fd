"""The module map: metrics of every projection of every layer, and its figure."""
