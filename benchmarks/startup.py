"""Time to start: importing the package, asking the command for help."""

import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from figures import Figure, alternate

ROUNDS = 11


def startup() -> Iterator[Figure]:
    """Measure in fresh processes, with a bare interpreter beside."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    bare, imported, helped = alternate(
        lambda: run("-c", "pass"),
        lambda: run("-c", "import geoembed"),
        lambda: run("-m", "geoembed", "--help"),
        rounds=ROUNDS,
    )
    yield Figure("bare interpreter", median(bare), "s")
    yield Figure("import geoembed", median(imported), "s", 0.25)
    yield Figure("geoembed --help", median(helped), "s", 0.5)
