"""Numbers, tables and figures of a model as LaTeX, for a paper about it."""
