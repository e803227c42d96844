"""Time to start: importing the package, asking the command for help."""

import subprocess
import sys
from collections.abc import Iterator

from figures import Figure, alternate, timed

__all__ = ["startup"]

ROUNDS = 11


def startup(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure in fresh processes, with a bare interpreter beside."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    bare, imported, helped = alternate(
        lambda: run("-c", "pass"),
        lambda: run("-c", "import geoembed"),
        lambda: run("-m", "geoembed", "--help"),
        rounds=rounds,
    )
    yield timed("bare interpreter", bare, "s")
    yield timed("import geoembed", imported, "s", 0.25)
    yield timed("geoembed --help", helped, "s", 0.5)
