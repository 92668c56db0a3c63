"""The datasets, under the name that they had before `subsetscan.lab.experiment.plan`."""

from ..experiment.plan import DATASETS

__all__ = ["DATASETS"]
