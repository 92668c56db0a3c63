"""Install the wheel of a folder in an environment of its own, and run the array-level tests there, without a compiler.

python .ci/test_wheel.py dist
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What needs the base dependencies alone, and pandas for checks of scikit-learn.
TESTS = (
    "test_background",
    "test_exact",
    "test_detector",
    "test_groups",
    "test_residuals",
    "test_mahalanobis",
    "test_selection",
    "test_types",
)  # fmt: skip
WITH = ("hypothesis", "pandas", "pytest")


def main() -> None:
    """Install and test."""
    (wheel,) = Path(sys.argv[1]).resolve().glob("*-abi3-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "env", with_pip=True)
        python = place / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if os.name != "nt":  # where there is a compiler, nothing is found
            environment["PATH"] = str(python.parent)
        install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheel, *WITH]
        subprocess.run(install, env=environment, check=True)
        for name in ("conftest.py", "strategies.py", *(f"{test}.py" for test in TESTS)):
            (place / name).write_bytes((ROOT / "tests" / name).read_bytes())
        found = "import subsetscan, subsetscan._core as core; print(subsetscan.__version__, core.__file__)"
        subprocess.run([python, "-c", found], cwd=place, env=environment, check=True)
        tests = [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-W", "error"]
        tests += [f"{test}.py" for test in TESTS]
        subprocess.run(tests, cwd=place, env=environment, check=True)


if __name__ == "__main__":
    main()
