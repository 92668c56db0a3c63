"""How attacks are read, under the name that it had before `subsetscan.lab.tracing.attacks`."""

from .attacks import strengths_of

__all__ = ["strengths_of"]
