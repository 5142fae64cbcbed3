"""Plotly figures in one style; every builder returns a `Figure` (a Plotly figure and its caption)."""

from lens_utils.figures.builders import bars, box_from_quartiles, heatmap, histogram, lines, scatter, small_heatmaps
from lens_utils.figures.heads import Edge, graph, small_scatters
from lens_utils.figures.parts import Figure
from lens_utils.figures.stacked import stacked_lines
from lens_utils.figures.svg import heatmap_svg

__all__ = [
    "Edge",
    "Figure",
    "bars",
    "box_from_quartiles",
    "graph",
    "heatmap",
    "heatmap_svg",
    "histogram",
    "lines",
    "scatter",
    "small_heatmaps",
    "small_scatters",
    "stacked_lines",
]
