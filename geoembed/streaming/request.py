"""What a run is asked for: checked before anything is read, and remembered for a later run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoembed import __version__
from geoembed.coordinates import GEOMETRY_CHOICES
from geoembed.errors import OptionError, TableError
from geoembed.geometries import check_samples
from geoembed.scalars import check_count
from geoembed.streaming.sources import check_path
from geoembed.streaming.workspace import fingerprint
from geoembed.tables import VECTOR_COLUMN

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["Request", "as_path", "check_batch_rows", "check_choices"]

_KINDS: Final = {".parquet": "parquet", ".geoparquet": "parquet", ".csv": "csv", ".npy": "npy"}
_CHOICES: Final = {
    "layout": (None, "vector", "columns"),
    "geometry": GEOMETRY_CHOICES,
    "on_invalid": ("raise", "nan", "drop"),
}
# These do not decide what is in the file.
_HOW: Final = frozenset({"source", "target", "force", "resume", "batch_rows"})


def as_path(path: object, what: str) -> Path:
    """Return a path with ``~`` expanded; raise TableError for what is none."""
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise TableError(f"The {what} is the path of a file, not a {kind}.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        # A home folder of nobody.
        return Path(path)


def check_batch_rows(rows: object) -> None:
    """Raise OptionError unless `rows` is a whole number of at least 1."""
    check_count("batch_rows", rows)


def check_choices(**options: object) -> None:
    """Raise OptionError unless ``layout``, ``geometry`` and ``on_invalid`` are ones offered."""
    for option, value in options.items():
        if value not in _CHOICES[option]:
            offered = ", ".join(str(choice) for choice in _CHOICES[option] if choice is not None)
            raise OptionError(f"{option}={value!r} is not one of: {offered}.")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The parameters of `geoembed.streaming.embed_file`, which see."""

    source: Path
    target: Path
    layout: str | None
    prefix: str | None
    overwrite: bool
    force: bool
    resume: bool
    lon: str | None
    lat: str | None
    crs: Any
    layer: str | None
    geometry: str
    samples: int
    on_invalid: str
    batch_rows: int | None

    @property
    def kind(self) -> str:
        """What is written: ``"parquet"``, ``"csv"`` or ``"npy"``."""
        return _KINDS[self.target.suffix.lower()]

    @property
    def written_to(self) -> Path:
        """The target; where it is a symbolic link, what it points to."""
        return Path(os.path.realpath(self.target)) if self.target.is_symlink() else self.target

    @property
    def written_layout(self) -> str:
        """How vectors are written, chosen or by default."""
        return self.layout or ("vector" if self.kind == "parquet" else "columns")

    def names(self, encoder: "LocationEncoder") -> list[str]:
        """Return the names of the embedding's columns."""
        if self.written_layout == "vector":
            return [VECTOR_COLUMN if self.prefix is None else self.prefix]
        return encoder.feature_names(self.prefix)

    def check(self) -> None:
        """Refuse what cannot be done, before anything is read.

        Raises
        ------
        OptionError
            If an option is not one of those offered, or does not go with the target.
        TableError
            If the target cannot be written.
        """
        check_choices(layout=self.layout, geometry=self.geometry, on_invalid=self.on_invalid)
        check_samples(self.samples)
        if self.batch_rows is not None:
            check_batch_rows(self.batch_rows)
        if self.target.suffix.lower() not in _KINDS:
            raise OptionError(
                f"{self.target.name}: the suffix does not say what to write. Known: "
                f"{', '.join(_KINDS)}."
            )
        if self.kind != "parquet" and self.layout == "vector":
            raise OptionError(
                f"layout='vector' is for Parquet; {self.target.suffix} holds one column a value."
            )
        self._check_target()

    def _check_target(self) -> None:
        check_path(self.target)
        folder = self.written_to.parent
        if not folder.is_dir():
            raise TableError(f"There is no folder {folder} to write {self.target.name} to.")
        if self.target.is_dir():
            raise TableError(f"{self.target} is a folder. Give the name of a file.")
        if self.source.exists() and self.target.exists() and self.source.samefile(self.target):
            raise TableError(f"{self.target} is the file to read. Give another name to write to.")
        if self.target.exists() and not self.force:
            raise TableError(
                f"{self.target} exists already. Pass force=True (--force) to replace it."
            )
        if not os.access(folder, os.W_OK):
            raise TableError(f"{folder} is read-only: {self.target.name} cannot be written there.")

    def facts(self, encoder: "LocationEncoder", files: Sequence[Path]) -> dict[str, Any]:
        """Return everything that decides what is in the file; fit for JSON."""
        asked = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _HOW}
        asked["crs"] = None if self.crs is None else str(self.crs)
        return asked | {
            "geoembed": __version__,
            "kind": self.kind,
            "layout": self.written_layout,
            "source": {file.name: fingerprint(file) for file in files},
            "encoder": {
                "name": encoder.name,
                "weights_sha256": encoder.weights_sha256,
                **encoder.options(),
            },
        }
