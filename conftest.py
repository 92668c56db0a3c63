"""For the examples in README and docstrings: what they write goes to a folder of their own."""

import pytest
from _pytest.doctest import DoctestItem


@pytest.fixture(autouse=True)
def examples_write_elsewhere(request, monkeypatch, tmp_path):
    if isinstance(request.node, DoctestItem):
        monkeypatch.chdir(tmp_path)
