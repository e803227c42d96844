"""Where weights lie on this machine: geoembed itself, the cache, a distribution; checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from platformdirs import user_cache_path

from geoembed.errors import MissingWeightsError, WeightsError
from geoembed.extending.specs import WeightsFile, WeightsSpec
from geoembed.weights.tensors import digest_file, digest_tensors, read_tensors

if TYPE_CHECKING:
    import torch

__all__ = [
    "FoundWeights",
    "cache_dir",
    "cache_folder",
    "cached_name",
    "check_file",
    "checked_path",
    "find",
    "load_tensors",
    "missing_weights",
    "remedy",
]


# Beside it lie files of geoembed itself, in a wheel as in an editable installation.
_OWN: Final = "geoembed"
_OWN_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class FoundWeights:
    """Where the files of a `WeightsSpec` were found.

    Parameters
    ----------
    kind : {"package", "cache", "distribution"}
        Which of the places they lie in: geoembed's own package, its cache, or another installed
        distribution.
    files : mapping of str to Path
        Role of a file -> the file.
    """

    kind: str
    files: Mapping[str, Path]


def cache_dir() -> Path:
    """Return geoembed's cache folder; ``GEOEMBED_CACHE`` moves it. It may not exist yet.

    Returns
    -------
    Path
        Absolute.

    Examples
    --------
    >>> cache_dir().is_absolute()
    True
    """
    named = os.environ.get("GEOEMBED_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return user_cache_path("geoembed", appauthor=False)


def find(spec: WeightsSpec) -> FoundWeights | None:
    """Look for weights in the cache, then in the installed distribution.

    Those that ship with geoembed itself are looked for in its package alone. Only looks whether
    the files are there; `load_tensors` checks what is in them.

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.

    Returns
    -------
    FoundWeights or None
        None if some file is in none of them.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> sorted(find(weights_specs()["geoclip.v1"]).files)
    ['gallery', 'image_mlp', 'location_encoder', 'logit_scale']
    """
    if spec.distribution == _OWN:
        # An editable installation knows of no files, so the package is asked and not its metadata.
        own = {file.role: _OWN_ROOT / file.path for file in spec.files}
        return FoundWeights("package", own) if all(map(Path.is_file, own.values())) else None
    folder = cache_folder(spec)
    cached = {file.role: folder / cached_name(file) for file in spec.files}
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
    """Build the error for weights that are nowhere, with the two commands that get them.

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.

    Returns
    -------
    MissingWeightsError
        To be raised.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> print(str(missing_weights(weights_specs()["geoclip.v1"])).splitlines()[-1].strip())
    pip install "geoembed[geoclip]"
    """
    if spec.distribution == _OWN:
        return MissingWeightsError(
            f"The weights {spec.name!r} ({spec.size / 1e6:.0f} MB, {spec.licence}) come with "
            f"geoembed, and {_OWN_ROOT / Path(spec.files[0].path).parent} does not hold them. "
            f"Install it anew:\n    {remedy(spec)}"
        )
    return MissingWeightsError(
        f"The weights {spec.name!r} ({spec.size / 1e6:.0f} MB, {spec.licence}) are neither in the "
        f"cache ({cache_folder(spec)}) nor in an installed distribution "
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
        If they are nowhere; the message says how to get them.
    WeightsError
        If a hash differs or the file cannot be read.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> tensors = load_tensors(weights_specs()["geoclip.v1"], "location_encoder")
    >>> tuple(tensors["LocEnc0.capsule.0.b"].shape)
    (256, 2)
    """
    file = spec.file(role)
    found = find(spec)
    if found is None:
        raise missing_weights(spec)
    path = found.files[role]
    if found.kind != "cache":
        check_file(path, file, spec)
        return read_tensors(path, role=role)
    try:
        tensors = read_tensors(path, role=role)
    except WeightsError as error:
        raise WeightsError(
            f"{error} Replace it with: geoembed weights pull {spec.name} --force"
        ) from error
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

    Parameters
    ----------
    spec : WeightsSpec
        Which weights.
    role : str
        Which of its files.

    Returns
    -------
    Path
        Where it was found.

    Raises
    ------
    MissingWeightsError
        If the weights are nowhere.
    WeightsError
        If the file's hash differs.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> checked_path(weights_specs()["geoclip.v1"], "gallery").suffix
    '.csv'
    """
    found = find(spec)
    if found is None:
        raise missing_weights(spec)
    check_file(found.files[role], spec.file(role), spec)
    return found.files[role]


def cache_folder(spec: WeightsSpec) -> Path:
    """Return the folder of a set of weights in the cache."""
    return cache_dir() / "weights" / spec.name


def cached_name(file: WeightsFile) -> str:
    """Return the name of a file in the cache: tensors become safetensors."""
    suffix = Path(file.path).suffix
    return file.role + (".safetensors" if suffix in {".pth", ".pt", ".safetensors"} else suffix)


def check_file(path: Path, file: WeightsFile, spec: WeightsSpec, shown: object = None) -> None:
    """Raise WeightsError unless a file has the SHA-256 of its spec; it is not opened before."""
    got = digest_file(path)
    if got != file.sha256:
        raise WeightsError(
            f"The file {shown or path} is not the one {spec.name!r} was published with: "
            f"SHA-256 {got}, expected {file.sha256}. It was not opened. "
            f"Fetch a sound copy with: {remedy(spec)}"
        )


def remedy(spec: WeightsSpec) -> str:
    """Return the command that replaces weights which are damaged or not there."""
    if spec.distribution == _OWN:
        return "pip install --force-reinstall --no-deps geoembed"
    return f"geoembed weights pull {spec.name} --force"
