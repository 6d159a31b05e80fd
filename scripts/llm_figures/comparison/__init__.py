"""Several models, or results made elsewhere, side by side."""
