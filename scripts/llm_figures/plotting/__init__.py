"""Drawing that all figures share: style, palettes, heatmaps, colour bars, files."""
