"""What modules of tests share: the path to their helpers, torch on one thread."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Tests are imported by their files (importmode=importlib), which finds no module beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Learn on one thread: networks so small take longer on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
