"""Attention maps: queries and keys, interventions on them, scores and the figures."""
