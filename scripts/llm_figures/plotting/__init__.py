"""What all figures share: style, palettes, heatmaps, colour bars, files."""
