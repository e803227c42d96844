"""What a run ran on: versions, git state, device, threads."""

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

import geoembed
from geoembed.training.distributed import Processes

__all__ = ["changes", "describe_environment"]

_PACKAGES: Final = ("numpy", "torchvision", "pillow")
_GIT_SECONDS: Final = 10.0
# What two sessions must have alike for their numbers to be the same.
_EXACT: Final = ("torch", "device", "threads", "processes")


def describe_environment(processes: Processes, step: int) -> dict[str, Any]:
    """Describe where a session of a run takes place.

    Parameters
    ----------
    processes : Processes
        That train together.
    step : int
        At which it begins.

    Returns
    -------
    dict
        Fit for JSON.

    Examples
    --------
    >>> found = describe_environment(Processes(), step=0)
    >>> found["device"], found["processes"], "torch" in found["versions"]
    ('cpu', 1, True)
    """
    device = processes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_step": step,
        "versions": {
            "geoembed": geoembed.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with its build
            **{package: _version(package) for package in _PACKAGES},
        },
        "platform": platform.platform(),
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "processes": processes.world,
        "git": {
            "working folder": _git_state(Path.cwd()),
            "geoembed": _git_state(Path(geoembed.__file__).parent),
        },
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two sessions differ that moves the last digits of their numbers.

    Parameters
    ----------
    before, now : mapping
        Of `describe_environment`.

    Returns
    -------
    list of str
        Such as ``"threads: 4 -> 2"``; empty if their results are the same bit for bit.

    Examples
    --------
    >>> changes({"threads": 4, "device": "cpu"}, {"threads": 2, "device": "cpu"})
    ['threads: 4 -> 2']
    """
    return [
        f"{key}: {_value(before, key)} -> {_value(now, key)}"
        for key in _EXACT
        if _value(before, key) != _value(now, key)
    ]


def _value(session: Mapping[str, Any], key: str) -> Any:
    return session.get("versions", {}).get(key) if key == "torch" else session.get(key)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and number of changed files; None where there is no git or no repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain") or ""
    return {"commit": commit.strip(), "changed_files": len(changed.splitlines())}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
