"""How nearly a network's results agree between batches, which depends on the processor."""

from pathlib import Path

import numpy as np

# With AVX-512 the operations of TensorFlow round a row alike wherever it stands in a batch. Without, they do not.
_CPU = Path("/proc/cpuinfo")
ROUNDS_ALIKE = _CPU.exists() and " avx512f " in _CPU.read_text()


def assert_same(found, expected, rtol=1e-5, atol=1e-6):
    """Assert equal bits, or closeness where the processor gives no more."""
    assert np.shape(found) == np.shape(expected)
    if ROUNDS_ALIKE:
        assert np.array_equal(found, expected)
    else:
        assert np.allclose(found, expected, rtol=rtol, atol=atol)
