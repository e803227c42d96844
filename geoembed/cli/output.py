"""How commands print: plain tables, JSON, and complaints on stderr."""

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

__all__ = ["complain", "print_json", "table"]


def complain(text: str) -> None:
    """Write one message of the program to stderr, behind its name."""
    # None where it is closed (`2>&-`): print would take stdout instead.
    stderr: TextIO | None = sys.stderr
    if stderr is not None:
        print(f"geoembed: {text}", file=stderr, flush=True)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON, with characters of all scripts as they are."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align rows under a header; numbers to the right, the last column as long as it is.

    Examples
    --------
    >>> print(table(["name", "dimension"], [["geoclip.v1", 512], ["xyz", 3]]))
    name        dimension
    geoclip.v1        512
    xyz                 3
    """
    lines = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(header))
    ]
    return "\n".join(_line(cells, widths, right) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    columns = zip(cells, widths, right, strict=True)
    padded = (cell.rjust(width) if r else cell.ljust(width) for cell, width, r in columns)
    return "  ".join(padded).rstrip()
