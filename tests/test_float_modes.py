"""Results have the same bits where a library has set that subnormal numbers are zeros, as `-ffast-math` does."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the mode is set by instructions of x86-64"
)

SCORES = """
import ctypes, hashlib, mmap, sys
import numpy as np

def set_mode(mode):
    # The one instruction: ldmxcsr [rdi]; ret.
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\\x0f\\xae\\x17\\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))(address)(ctypes.c_uint32(mode))

def has_subnormals():
    return bool(np.array([1e-40], np.float32) * np.ones(1, np.float32) != 0)

from subsetscan import Background, scan
from subsetscan._core import within_sample_ranks

rng = np.random.default_rng(0)
integers = rng.integers(-9, 10, (1500, 70))
p_values = rng.choice([5e-324, 1e-310, 0.1, 0.5, 1.0], (40, 30))
given = [(integers * np.finfo(t).smallest_subnormal).astype(t) for t in (np.float16, np.float32, np.float64)]
rounded = given[1].astype(np.float64) * 1.25  # between two values of single precision
digest = hashlib.sha256()
if sys.argv[1] == "zeros":
    assert has_subnormals()
    set_mode(0x9FC0)
    assert not has_subnormals()
for values in given:
    background = Background(values[:700])
    for n in (3, 800):  # on this thread, and on others
        images = values[700 : 700 + n]
        for tail in ("upper", "two-sided"):
            found = background.scan(images, tail=tail)
            digest.update(found.scores.tobytes() + found.alphas.tobytes())
            digest.update(background.p_values(images, tail=tail).tobytes())
        digest.update(within_sample_ranks(images).tobytes())
digest.update(Background(given[1][:700]).p_values(rounded).tobytes())
digest.update(scan(p_values).scores.tobytes())
if sys.argv[1] == "zeros":
    assert not has_subnormals()  # what the caller has set is left as it is
print(digest.hexdigest())
"""


def digest(simd, subnormals):
    done = subprocess.run(
        [sys.executable, "-c", SCORES, subnormals],
        env=os.environ | {"SUBSETSCAN_SIMD": simd}, capture_output=True, text=True,
    )  # fmt: skip
    if "does not have" in done.stderr:
        pytest.skip(f"no {simd} here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("simd", ["plain", "avx2", "avx512"])
def test_subnormal_numbers_are_numbers_in_every_mode(simd):
    assert digest(simd, "zeros") == digest(simd, "numbers") == digest("plain", "numbers")
