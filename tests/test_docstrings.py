"""Docstrings that list names list those that there are, so that a new name is missed nowhere."""

import re
from pathlib import Path

import pytest

import subsetscan
from subsetscan import _core, node_blocks
from subsetscan.calibration import CALIBRATIONS
from subsetscan.combination import COMBINATIONS
from subsetscan.detectors.conditional import CONDITIONALS
from subsetscan.detectors.entropy import NORMALISATIONS, READINGS
from subsetscan.detectors.residual_scan import VALUES
from subsetscan.lab.attacks import ATTACKS, PROTOCOLS
from subsetscan.lab.datasets import DATASETS
from subsetscan.lab.files.edits import HARMLESS, HIDING
from subsetscan.lab.files.methods import AUTOMATIC, BOTH
from subsetscan.lab.networks import NETWORKS
from subsetscan.lab.preprocessing import PREPROCESSINGS
from subsetscan.lab.subjects.subject import CHOOSE, REPORT
from subsetscan.spaces.layers import OVER
from subsetscan.spaces.pooling import POOLS, UNITS
from subsetscan.spaces.reconstruction import METRICS
from subsetscan.spaces.responses import METHODS, TARGETS
from subsetscan.spaces.token_pooling import TOKEN_POOLS

PACKAGE = Path(subsetscan.__file__).parent
REGISTRIES = {
    "statistic": _core.STATISTICS,
    "tail": _core.TAILS,
    "scope": _core.SCOPES,
    "ties": _core.TIES,
    "summary": _core.SUMMARIES,
    "bound": (*_core.BOUNDS, None),
    "calibration": CALIBRATIONS,
    "combine": COMBINATIONS,
    "conditional": CONDITIONALS,
    "reading": READINGS,
    "normalise": NORMALISATIONS,
    "method": METHODS,
    "target": TARGETS,
    "metric": METRICS,
    "mode": PREPROCESSINGS,
    "protocol": PROTOCOLS,
    "images": PROTOCOLS,
    "dataset": DATASETS,
    "of": VALUES,
    "role": (CHOOSE, REPORT),
    "pool": POOLS,
    "unit": UNITS,
    "over": OVER,
    "network": NETWORKS,
    "against": (AUTOMATIC, BOTH),
    "node_blocks.py ties": node_blocks.TIES,
    "blocked.py ties": node_blocks.TIES,
    "adapters/dask.py ties": node_blocks.TIES,
    "spaces/token_pooling.py pool": TOKEN_POOLS,
    "spaces/transformer.py pool": (*TOKEN_POOLS, None),
    "lab/attacks.py name": ATTACKS,
    "lab/datasets.py name": DATASETS,
    "lab/files/edits.py role": (HARMLESS, HIDING),
    "lab/reproduction/stages.py name": DATASETS,
}
# Where a parameter takes fewer than all.
WITHOUT = {
    "ties": {"range"},  # where each node needs one p-value
    "detectors/outlier.py calibration": {"leave-one-out"},
    "detectors/combined.py calibration": {None},
    "combination.py combine": {"fisher+harmonic"},  # of combined_scores, which it is made of
    "lab/experiment/scoring.py combine": {"fisher+harmonic", "harmonic"},
}
NO_REGISTRY = ("membership", "split")


def listed():
    """Find the parameters of docstrings that are followed by names in braces."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for parameter, names in re.findall(r"^ +(\w+) : (?:sequence of )?\{([^}:]*)\}", path.read_text("utf-8"), re.M):
            if parameter not in NO_REGISTRY:
                found = [None if name.strip() == "None" else name.strip(' \n"') for name in names.split(",")]
                yield f"{path.relative_to(PACKAGE).as_posix()} {parameter}", found


@pytest.mark.parametrize(("place", "names"), list(listed()))
def test_docstrings_list_the_names_that_there_are(place, names):
    parameter = place.partition(" ")[2]
    known = set(REGISTRIES.get(place, REGISTRIES.get(parameter, ())))
    if parameter == "combine":
        names = [name for name in names if name is not None]  # it is what does not combine
    assert len(set(names)) == len(names)
    assert set(names) in (known, known - WITHOUT.get(place, WITHOUT.get(parameter, set())))


def test_every_list_is_looked_at():
    found = [place for place, _ in listed()]
    assert {"detectors/subset_scan.py statistic", "background.py ties", "lab/attacks.py name"} <= set(found)
    assert {place.partition(" ")[2] for place in found} | set(REGISTRIES) == {"name"} | set(REGISTRIES)
