"""Fixtures for all tests, and which of them are slow."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

# Workers of pytest-xdist ignore Ctrl-C, and so would the programs that tests start and interrupt;
# and they have a terminal's width, to which tables in files would be cut.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("COLUMNS", None)

# Under `uv run pytest`, messages would say `uv run phalanx` instead of `phalanx`.
os.environ.pop("UV_RUN_RECURSION_DEPTH", None)


def slow_tests():
    """(file, beginning of a test's name) from slow.txt."""
    file = ""
    for line in (Path(__file__).parent / "slow.txt").read_text().splitlines():
        if line.startswith(" "):
            yield f"{file}.py", line.strip()
        elif not line.startswith("#"):
            file = line.strip()


def pytest_collection_modifyitems(items):
    """Mark slow tests. An entry of a collected file that fits no test is an error: it is old."""
    whole = {item.path.name for item in items if "::" not in " ".join(item.config.args)}
    for file, name in slow_tests():
        found = [i for i in items if i.path.name == file and i.name.startswith(name)]
        for item in found:
            item.add_marker(pytest.mark.slow)
        if file in whole and not found:
            raise pytest.UsageError(f"tests/slow.txt names {name}, which {file} does not have")


def pytest_runtest_setup(item):
    """The same draws in every order of tests and in every process that shares them."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture
def one_thread():
    """PyTorch on one thread: for tiny networks more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
