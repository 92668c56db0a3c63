"""Inputs in every form in which they are handed in: how many there are, batches of them, what they look like."""

from .base import Batch, Inputs
from .kinds import as_inputs, one_input, sequence_inputs
from .npy import array_from_bytes
from .pictures import PictureFolder
from .summary import InputSummary, ScaleWatch, SeenInputs

__all__ = [
    "Batch",
    "InputSummary",
    "Inputs",
    "PictureFolder",
    "ScaleWatch",
    "SeenInputs",
    "array_from_bytes",
    "as_inputs",
    "one_input",
    "sequence_inputs",
]
