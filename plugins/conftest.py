"""Bundled plugins are tested as they lie here, installed or not."""

import sys
from pathlib import Path

sys.path[:0] = [str(path.parent) for path in Path(__file__).parent.glob("*/pyproject.toml")]
