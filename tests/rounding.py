"""How nearly a network's results agree between batches, which depends on the processor."""

import os
from pathlib import Path

import numpy as np

# With AVX-512, of Intel and of AMD, TensorFlow's operations round a row alike wherever it stands in a batch; with AVX2
# alone they did not.
_CPU = Path("/proc/cpuinfo")
_FLAGS = set(_CPU.read_text().split()) if _CPU.exists() else set()
ROUNDS_ALIKE = {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= _FLAGS and "ONEDNN_MAX_CPU_ISA" not in os.environ


def assert_same(found, expected, rtol=1e-5, atol=1e-6):
    """Assert equal bits, or closeness where the processor gives no more."""
    assert np.shape(found) == np.shape(expected)
    if ROUNDS_ALIKE:
        assert np.array_equal(found, expected)
    else:
        assert np.allclose(found, expected, rtol=rtol, atol=atol)
