"""Figures: of scores, of subsets of nodes, of places within an input, of feature responses."""

from .explanation import Example, anomalous_nodes, explanation
from .responses import Response, responses
from .scores import counted_shares, densities, proportions, roc, roc_and_densities
from .sequence import sequence, text_panel
from .style import COLOURS, drawable, new_figure, save

__all__ = [
    "COLOURS",
    "Example",
    "Response",
    "anomalous_nodes",
    "counted_shares",
    "densities",
    "drawable",
    "explanation",
    "new_figure",
    "proportions",
    "responses",
    "roc",
    "roc_and_densities",
    "save",
    "sequence",
    "text_panel",
]
