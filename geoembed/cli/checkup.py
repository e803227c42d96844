"""The checks behind ``geoembed doctor``: what is here, what is wrong, what to do about it."""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from geoembed import __version__
from geoembed.errors import GeoembedError, PluginError
from geoembed.extending.specs import WeightsSpec

__all__ = ["Findings", "Problem", "check_all"]

# Above this a plugin is felt by everybody who types `geoembed --help`.
SLOW_PLUGIN = 0.3

# Imported for real: their shared libraries are what breaks in practice.
IMPORTED = ("torch", "geopandas", "shapely", "pyogrio", "pyarrow", "sklearn")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, with the remedy; essential if the main job cannot be done."""

    what: str
    do: str
    essential: bool


@dataclass
class Findings:
    """What the checks saw."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, what: str, do: str, *, essential: bool) -> None:
        """Note a problem."""
        self.problems.append(Problem(what, do, essential))


def check_all() -> Findings:
    """Run every check; one that fails unexpectedly becomes a problem of its own."""
    findings = Findings()
    checks: list[Callable[[Findings], None]] = [
        _versions, _imports, _devices, _projections, _cache, _weights, _plugins, _factories,
    ]  # fmt: skip
    for check in checks:
        try:
            check(findings)
        except Exception as error:
            name = check.__name__.strip("_")
            findings.problem(
                f"the check of {name} failed: {type(error).__name__}: {error}",
                "run geoembed doctor --debug",
                essential=True,
            )
    return findings


def _versions(findings: Findings) -> None:
    findings.facts["python"] = f"{platform.python_version()} on {platform.platform()}"
    findings.facts["geoembed"] = __version__
    packages: dict[str, str | None] = {}
    for name, floor, optional in _requirements():
        have = _version(name)
        packages[name] = have
        if have is None and not optional:
            findings.problem(
                f"the package {name} is not installed", f'pip install "{name}"', essential=True
            )
        elif have is not None and floor and _numbers(have) < _numbers(floor):
            findings.problem(
                f"{name} {have} is older than {floor}",
                f'pip install --upgrade "{name}>={floor}"',
                essential=not optional,
            )
    findings.facts["packages"] = packages


def _requirements() -> list[tuple[str, str, bool]]:
    """Name, lowest version and whether only an extra needs it, from the installed metadata."""
    found: dict[str, tuple[str, str, bool]] = {}
    for line in requires("geoembed") or []:
        need, _, marker = line.partition(";")
        match = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(?:\(?>=\s*([\d.]+))?", need)
        # Tools of our own checks and docs tell a user nothing.
        if match is None or re.search(r"extra == ['\"](test|docs|check)['\"]", marker):
            continue
        name = match[1]
        if name != "geoembed":
            found.setdefault(name, (name, match[2] or "", "extra ==" in marker))
    return list(found.values())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])[:3]))


def _imports(findings: Findings) -> None:
    for name in IMPORTED:
        try:
            import_module(name)
        except Exception as error:
            findings.problem(
                f"{name} is installed but cannot be imported: {error}",
                f"pip install --force-reinstall {name}",
                essential=True,
            )


def _devices(findings: Findings) -> None:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count)]
    if torch.backends.mps.is_available():
        devices.append("mps")
    findings.facts["devices"] = devices
    cores, threads = _cores(), torch.get_num_threads()
    findings.facts["threads"] = {
        "torch": threads,
        "cores": cores,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    if threads > cores:
        findings.problem(
            f"torch uses {threads} threads on {cores} cores, which slows it down many times",
            f"set OMP_NUM_THREADS={cores}",
            essential=False,
        )


def _cores() -> int:
    """Count the cores this process may use: its affinity and the container's quota."""
    have = getattr(os, "sched_getaffinity", None)
    cores = len(have(0)) if have is not None else (os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    # No such file, or "max": no quota.
    except (OSError, ValueError):
        return cores


def _projections(findings: Findings) -> None:
    import pyproj

    try:
        pyproj.Transformer.from_crs(3857, 4326, always_xy=True).transform(0.0, 0.0)
    except pyproj.exceptions.ProjError as error:
        findings.problem(
            f"pyproj cannot use its database of reference systems: {error}",
            "unset PROJ_DATA and PROJ_LIB, or: pip install --force-reinstall pyproj",
            essential=True,
        )


def _cache(findings: Findings) -> None:
    from geoembed.weights import cache_dir, is_offline

    folder = cache_dir()
    writable = _is_writable(folder)
    findings.facts["cache"] = {"folder": str(folder), "writable": writable}
    findings.facts["offline"] = is_offline()
    if not writable:
        findings.problem(
            f"the cache folder {folder} cannot be written",
            "set GEOEMBED_CACHE to a folder of your own",
            essential=False,
        )


def _is_writable(folder: Path) -> bool:
    """Try it in the folder, or in the first parent that exists: permissions alone can lie."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _weights(findings: Findings) -> None:
    from geoembed.extending.registry import weights_specs
    from geoembed.weights import cache_dir, find
    from geoembed.weights.store import remedy

    states: dict[str, str] = {}
    for spec in weights_specs().values():
        essential = spec.name == "geoclip.v1"
        found = find(spec)
        if found is not None:
            states[spec.name] = f"in the {found.kind}"
            _check_files(findings, spec, essential)
            continue
        states[spec.name] = "missing"
        findings.problem(
            f"the trained weights {spec.name} ({spec.size / 1e6:.0f} MB) are not here",
            remedy(spec).removesuffix(" --force"),
            essential=essential,
        )
        free = _free_bytes(cache_dir())
        if free < 2 * spec.size:
            findings.problem(
                f"only {free / 1e6:.0f} MB are free where the cache is",
                "make room, or set GEOEMBED_CACHE to another disk",
                essential=False,
            )
    findings.facts["weights"] = states


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_files(findings: Findings, spec: WeightsSpec, essential: bool) -> None:
    from geoembed.weights import checked_path, load_tensors
    from geoembed.weights.store import remedy

    for file in spec.files:
        holds_tensors = Path(file.path).suffix in {".pth", ".pt", ".safetensors"}
        try:
            (load_tensors if holds_tensors else checked_path)(spec, file.role)
        except GeoembedError as error:
            findings.problem(
                f"the weights {spec.name} are damaged: {error}",
                remedy(spec),
                essential=essential,
            )
            return


def _plugins(findings: Findings) -> None:
    from geoembed.extending.registry import plugin_report

    report = plugin_report()
    findings.facts["plugins"] = {info.name: f"{info.version} {info.status}" for info in report}
    for info in report:
        if info.status == "failed":
            findings.problem(
                f"the plugin {info.name} {info.version} was left out: {info.error}",
                f"update it, or: pip uninstall {info.name}",
                essential=False,
            )
        if info.seconds > SLOW_PLUGIN and info.source != "built-in":
            findings.problem(
                f"the plugin {info.name} takes {info.seconds:.1f} s to load",
                "ask its author to import heavy packages inside functions",
                essential=False,
            )


def _factories(findings: Findings) -> None:
    from geoembed.extending.registry import location_encoder_specs, resolve_factory

    for spec in location_encoder_specs().values():
        try:
            resolve_factory(spec.factory, owner=spec.owner)
        except (PluginError, ImportError) as error:
            findings.problem(
                f"the encoder {spec.name} cannot be used: {error}",
                f"reinstall or update {spec.owner.split(' ')[0]}",
                essential=spec.name == "geoclip.v1",
            )
