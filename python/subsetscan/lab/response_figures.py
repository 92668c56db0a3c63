"""The figures of feature responses, under the name that they had before `subsetscan.lab.figures.responses`."""

from .figures import Response, responses

__all__ = ["Response", "responses"]
