"""Fixtures for all tests."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """PyTorch on one thread: for tiny networks more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
