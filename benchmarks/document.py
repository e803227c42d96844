"""The JSON file of a run: where it was made, its suites, their figures; read and written whole."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import Figure

__all__ = ["BUSY", "BenchFileError", "Run", "SuiteRun", "read_run", "write_run"]

FORMAT = "geoembed-bench"
VERSION = 3
# Before it a suite had the load of the machine, which told of the suite before.
_LOADED = 2
# So many cores at other work are too many.
BUSY = 0.5
# What must be the same for seconds of two runs to be compared.
SAME = ("processor", "machine", "cores", "threads", "torch", "capability", "python")


class BenchFileError(ValueError):
    """A file of results that cannot be read or used as asked."""


@dataclass
class SuiteRun:
    """What became of one suite.

    Parameters
    ----------
    status : {"done", "failed", "running"}
        ``"running"`` only in the file of a run that goes on or was killed.
    size : str
        Which sizes it measured: ``"full"``, ``"quick"`` or ``"tiny"``.
    seconds : float
        How long it took.
    busy : float or None
        Cores that other work kept busy when it began; None where nobody looked.
    error : str
        Why it failed.
    figures : list of Figure
        What it measured, all or what came before it failed.
    """

    status: str
    size: str
    seconds: float = 0.0
    busy: float | None = None
    error: str = ""
    figures: list[Figure] = field(default_factory=list)


@dataclass
class Run:
    """A run of the benchmarks: facts of the machine and what its suites found."""

    about: dict[str, Any]
    suites: dict[str, SuiteRun] = field(default_factory=dict)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield the name of the suite and the figure, of all suites."""
        for name, suite in self.suites.items():
            for figure in suite.figures:
                yield name, figure

    def differences(self, other: "Run") -> list[str]:
        """Say in which facts that seconds depend on the machine of another run differs."""
        return [
            f"{fact}: {self.about.get(fact)} and {other.about.get(fact)}"
            for fact in SAME
            if self.about.get(fact) != other.about.get(fact)
        ]


def write_run(run: Run, path: Path) -> None:
    """Write a run; the file is always whole, whenever the process is killed."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "about": run.about,
        "suites": {
            name: {**vars(suite), "figures": [each.as_dict() for each in suite.figures]}
            for name, suite in run.suites.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_run(path: Path) -> Run:
    """Read a run.

    Raises
    ------
    BenchFileError
        If there is no such file, or it holds something else; the message says what to do.
    """
    again = "measure one with `python benchmarks/run.py`, it writes bench/bench.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchFileError(
            f"{path} is not there: name the bench.json of a run, or {again}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BenchFileError(
            f"{path} cannot be read ({error}): name the bench.json of a run."
        ) from error
    except json.JSONDecodeError as error:
        raise BenchFileError(
            f"{path} is no JSON, or was cut ({error}): name the bench.json of a run, or {again}."
        ) from None
    if isinstance(document, dict) and "format" not in document and "figures" in document:
        raise BenchFileError(
            f"{path} was written before suites had a process of their own: {again}, and compare "
            "with that."
        )
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BenchFileError(f"{path} holds JSON, but no results of benchmarks: {again}.")
    if document.get("version") not in (_LOADED, VERSION):
        raise BenchFileError(
            f"{path} has version {document.get('version')} of the format, this geoembed reads "
            f"{VERSION}: {again}, and compare with that."
        )
    try:
        suites = {}
        for name, stored in document["suites"].items():
            if document["version"] == _LOADED:
                stored.pop("load", None)
            figures = [Figure.from_dict(each) for each in stored["figures"]]
            suites[name] = SuiteRun(**{**stored, "figures": figures})
        return Run(dict(document["about"]), suites)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchFileError(
            f"{path} says that it holds results, but not as they are written ({error!r}): {again}."
        ) from error
