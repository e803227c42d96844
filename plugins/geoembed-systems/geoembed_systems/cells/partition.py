"""Partitions of the Earth into classes of places, each of one S2 cell or several."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.spatial import KDTree

from geoembed.coordinates import read_places
from geoembed.crs import WGS84
from geoembed.errors import OptionError, SavedHeadError
from geoembed.geodesy import to_unit_vectors
from geoembed_systems.cells import s2
from geoembed_systems.cells.outlines import cell_polygons

__all__ = ["FORMAT", "Partition"]

Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]

FORMAT: Final = 1
"""Version of what `Partition.save` writes."""


class Partition:
    """Classes of places: S2 cells that do not overlap, with the mean of the places in each.

    `geoembed_systems.cells.adaptive.adaptive_partition` makes them.

    Parameters
    ----------
    cells : array of shape (B,), uint64
        Ids of S2 cells, ascending, none inside another.
    means : array of shape (C, 2), float64
        Longitude and latitude of the mean of each class's places on the sphere, degrees, WGS 84.
    counts : array of shape (C,), int64
        Places in each class.
    places : int
        How many the partition was made from; some may lie in no class.
    options : mapping, optional
        What it was made with; fit for JSON.
    owner : array of shape (B,), int64, optional
        Class of each cell, where classes are made of several cells; classes are numbered in the
        order of their first cells. Without, every cell is a class.

    Attributes
    ----------
    ids : array of shape (C,), uint64
        The cell of each class; its first cell, where it has several. Ascending.
    digest : str
        SHA-256 over cells, their classes and means: equal partitions have equal digests.

    Raises
    ------
    OptionError
        If shapes do not fit together, cells overlap or are out of order.

    Examples
    --------
    >>> from geoembed_systems.cells.adaptive import adaptive_partition
    >>> rng = np.random.default_rng(0)
    >>> partition = adaptive_partition(rng.uniform(0, 30, (500, 2)), t_max=60, t_min=30)
    >>> len(partition), int(partition.counts.sum()), partition.places
    (5, 223, 500)
    >>> partition.locate([[10.0, 10.0], [-120.0, 40.0]]).tolist()
    [0, -1]
    """

    def __init__(
        self,
        cells: Any,
        means: Any,
        counts: Any,
        *,
        places: int,
        options: Mapping[str, Any] | None = None,
        owner: Any = None,
    ) -> None:
        self.cells: Ids = np.ascontiguousarray(cells, dtype=np.uint64)
        self.means: Floats = np.ascontiguousarray(means, dtype=np.float64)
        self.counts: Ints = np.ascontiguousarray(counts, dtype=np.int64)
        self.places = int(places)
        self.options = dict(options or {})
        plain = np.arange(len(self.cells), dtype=np.int64)
        self.owner: Ints = plain if owner is None else np.ascontiguousarray(owner, dtype=np.int64)
        self._check()
        self._first, self._last = s2.first_leaves(self.cells), s2.last_leaves(self.cells)
        if (self._first[1:] <= self._last[:-1]).any():
            raise OptionError("cells= overlap or do not ascend: give each once, in order.")
        self.ids: Ids = self.cells[np.unique(self.owner, return_index=True)[1]]
        self.joined = len(self.ids) < len(self.cells)

    def _check(self) -> None:
        classes, first = np.unique(self.owner, return_index=True)
        fits = (
            self.cells.ndim == 1
            and self.owner.shape == self.cells.shape
            and self.means.shape == (len(classes), 2)
            and self.counts.shape == (len(classes),)
        )
        if not fits or not len(classes):
            raise OptionError(
                f"Cells, means and counts of the shapes {self.cells.shape}, {self.means.shape} and "
                f"{self.counts.shape} do not fit together: give (B,), (C, 2), (C,), not empty."
            )
        if (classes != np.arange(len(classes))).any() or (np.diff(first) < 0).any():
            raise OptionError("owner= must number the classes from 0, by their first cells.")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        made = f"{len(self.cells):,} cells" if self.joined else "S2 cells"
        return (
            f"<Partition of {len(self):,} classes of {made}, "
            f"{int(self.counts.sum()):,} of {self.places:,} places>"
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over cells, their classes and means."""
        found = hashlib.sha256()
        for array, kind in ((self.cells, "<u8"), (self.owner, "<i8"), (self.means, "<f8")):
            found.update(array.astype(kind).tobytes())
        return found.hexdigest()

    @property
    def levels(self) -> Ints:
        """S2 level of each class, (C,); of its coarsest cell, where it has several."""
        coarsest = np.full(len(self), s2.MAX_LEVEL, dtype=np.int64)
        np.minimum.at(coarsest, self.owner, s2.levels(self.cells))
        return coarsest

    def locate(self, points: Any) -> Ints:
        """Return the class that holds each place.

        Parameters
        ----------
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as `geoembed.read_places` takes them.

        Returns
        -------
        array of shape (n,), int64
            -1 where no class holds the place.
        """
        leaves = s2.cell_ids(read_places(points).lonlat)
        at = np.searchsorted(self._first, leaves, side="right") - 1
        held = (at >= 0) & (leaves <= self._last[at])
        return np.where(held, self.owner[at], -1)

    def nearest(self, points: Any) -> Ints:
        """Return the class whose mean is nearest to each place.

        Parameters
        ----------
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as `geoembed.read_places` takes them.

        Returns
        -------
        array of shape (n,), int64
            By great-circle distance; a class for every place.
        """
        found = self._tree.query(to_unit_vectors(read_places(points).lonlat))[1]
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(to_unit_vectors(self.means))

    def check(self, digest: str) -> None:
        """Refuse a partition of other data.

        Parameters
        ----------
        digest : str
            Of the partition that this one should be.

        Raises
        ------
        OptionError
            If it is another.
        """
        if digest != self.digest:
            raise OptionError(
                f"{self!r} is a partition of other data (digest {self.digest[:12]}) than the one "
                f"that was learned from ({digest[:12]}): its classes mean other places. Use the "
                "partition that was saved with the system."
            )

    def to_frame(self) -> gpd.GeoDataFrame:
        """Draw the classes.

        Returns
        -------
        GeoDataFrame
            EPSG:4326, a row a class: ``cell`` (its number), ``s2`` (token of its cell, all of them
            with spaces between where it has several), ``level``, ``places``, ``lon`` and ``lat``
            of their mean, and ``geometry``, valid polygons cut at the antimeridian.
        """
        shapes, tokens = cell_polygons(self.cells), s2.tokens(self.cells)
        if self.joined:
            held = [np.flatnonzero(self.owner == number) for number in range(len(self))]
            shapes = np.array([shapely.union_all(shapes[rows]) for rows in held], dtype=np.object_)
            tokens = [" ".join(tokens[row] for row in rows) for rows in held]
        columns = {
            "cell": np.arange(len(self)),
            "s2": tokens,
            "level": self.levels,
            "places": self.counts,
            "lon": self.means[:, 0],
            "lat": self.means[:, 1],
        }
        return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=WGS84)

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what it is made of.

        Returns
        -------
        arrays : dict of str to array
            Ids as int64 of the same bits, which every tensor library knows.
        config : dict
            Fit for JSON.
        """
        arrays: dict[str, NDArray[Any]] = {
            "cells": self.cells.view(np.int64),
            "owner": self.owner,
            "means": self.means,
            "counts": self.counts,
        }
        config = {
            "format": FORMAT,
            "places": self.places,
            "options": self.options,
            "digest": self.digest,
        }
        return arrays, config

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], config: Mapping[str, Any]) -> Self:
        """Make it again from what `to_state` gave.

        Parameters
        ----------
        arrays : mapping of str to array or Tensor
            As given.
        config : mapping
            As given.

        Returns
        -------
        Partition
            With the same digest.

        Raises
        ------
        SavedHeadError
            If it was saved by another version, or is damaged.
        """
        if config.get("format") != FORMAT:
            raise SavedHeadError(
                f"The partition was saved in format {config.get('format')!r}, and this version "
                f"reads {FORMAT}: make it again, or use the version that saved it."
            )
        try:
            made = cls(
                np.array(arrays["cells"], dtype=np.int64).view(np.uint64),
                np.array(arrays["means"]),
                np.array(arrays["counts"]),
                places=config["places"],
                options=config["options"],
                owner=np.array(arrays["owner"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SavedHeadError(f"The saved partition is damaged: {error}") from error
        if made.digest != config.get("digest"):
            raise SavedHeadError(
                "The saved partition is damaged: its cells and means are not those of its digest."
            )
        return made

    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file.

        Parameters
        ----------
        path : str or Path
            Of the file; replaced if it is there.

        Returns
        -------
        Path
            The same.
        """
        target = Path(path)
        arrays, config = self.to_state()
        written = target.with_name(target.name + ".part")
        save_file(arrays, written, metadata={"partition": json.dumps(config)})
        written.replace(target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            Of the file.

        Returns
        -------
        Partition
            With the same digest.

        Raises
        ------
        SavedHeadError
            If there is no such file, it is none of a partition, of another version or damaged.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                config = json.loads((file.metadata() or {})["partition"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise SavedHeadError(
                f"{path} cannot be read as a partition ({type(error).__name__}: {error}): give a "
                "file that Partition.save wrote."
            ) from error
        return cls.from_state(arrays, config)
