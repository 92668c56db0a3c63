"""Where no threads can be made, the error says so."""

import os
import subprocess
import sys

import pytest

SCAN = """
import os, resource
import numpy as np
from subsetscan import Background

if os.geteuid() == 0:
    os.setuid(54321)  # root has no limit
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    Background(np.random.default_rng(0).random((300, 400)))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_no_threads_can_be_made():
    done = subprocess.run(
        [sys.executable, "-c", SCAN],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cannot make threads (")
    assert "the limit of processes and threads is reached, see `ulimit -u`" in done.stdout
