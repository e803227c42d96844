"""A gallery: places with their embeddings, encoded once, searched many times."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.encoders.base import LocationEncoder
from geoembed.extending.registry import index_spec, resolve_factory
from geoembed.galleries.cache import encoder_again, find_again
from geoembed.galleries.coverage import Coverage, coverage_of
from geoembed.galleries.index import Found, GalleryIndex, positions_of
from geoembed.galleries.index_files import staged_indexes
from geoembed.galleries.making import Making
from geoembed.galleries.places import GalleryPlaces
from geoembed.galleries.store import publish_folder, read_folder

__all__ = ["Gallery"]


class Gallery(Making):
    """Places with their embeddings. Made by its class methods or `geoembed.load_gallery`.

    Parameters
    ----------
    places : GalleryPlaces
        Distinct places.
    embeddings : array of shape (n, d), float32 or float16
        Their unit vectors.
    facts : dict
        How they were made, see `geoembed.galleries.cache.gallery_facts`.
    folder : Path, optional
        Where they lie.
    device : str
        Where it is searched: ``"auto"`` or a device name.

    Examples
    --------
    >>> gallery = Gallery.from_lonlat([[2.35, 48.86], [13.4, 52.5], [2.35, 48.86]], name="two")
    >>> len(gallery), gallery.counts.tolist(), gallery.embeddings.shape
    (2, [2, 1], (2, 512))
    >>> scores, rows = gallery.search(gallery.embeddings[1:], k=1)
    >>> rows.tolist()
    [[1]]
    """

    def __init__(
        self,
        places: GalleryPlaces,
        embeddings: NDArray[np.floating[Any]],
        facts: dict[str, Any],
        *,
        folder: Path | None = None,
        device: str = "auto",
    ) -> None:
        self.places = places
        self.embeddings = embeddings
        self.facts = facts
        self.folder = folder
        self.device = device
        self._indexes: dict[str, GalleryIndex] = {}

    # -- what it is ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.places)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.places.name

    @property
    def lonlat(self) -> NDArray[np.float64]:
        """Its places, array of shape (n, 2): longitude, latitude, degrees, WGS 84."""
        return self.places.lonlat

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows of the source each place stands for, array of shape (n,)."""
        return self.places.counts

    @property
    def encoder(self) -> str:
        """Name of the location encoder."""
        return str(self.facts["encoder"])

    @property
    def encoder_path(self) -> str:
        """File or folder that the encoder came from; empty for registered ones."""
        return str(self.facts.get("encoder_path", ""))

    @property
    def weights_sha256(self) -> str:
        """Digest of the encoder's weights."""
        return str(self.facts["weights_sha256"])

    @property
    def layers(self) -> str:
        """Which layers make up a vector."""
        return str(self.facts["layers"])

    @property
    def dtype(self) -> str:
        """In which the vectors are kept."""
        return str(self.embeddings.dtype)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the places, the same wherever they are encoded."""
        return self.places.digest

    def frame(self) -> gpd.GeoDataFrame:
        """Return the places as a table.

        Returns
        -------
        GeoDataFrame
            EPSG:4326, with the columns ``lon``, ``lat``, ``count`` and ``geometry``.
        """
        lon, lat = self.lonlat.T
        return gpd.GeoDataFrame(
            {"lon": lon, "lat": lat, "count": self.counts},
            geometry=gpd.points_from_xy(lon, lat),
            crs="EPSG:4326",
        )

    def coverage_report(self, truth: Any = None) -> Coverage:
        """Say how densely the gallery covers the Earth, and how near it comes to given places.

        Parameters
        ----------
        truth : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (m, 2), optional
            Places that answers should come near: no answer of a search can be nearer than the
            gallery's nearest place.

        Returns
        -------
        Coverage
            Spacing, density by continent, and the ceiling where `truth` is given.

        Examples
        --------
        >>> report = Gallery.cities(1_000_000).coverage_report(truth=[[2.35, 48.86]])
        >>> report.ceiling[25.0]
        1.0
        """
        lonlat = None if truth is None else read_places(truth).lonlat
        return coverage_of(self.lonlat, self.counts, lonlat)

    def __repr__(self) -> str:
        return (
            f"<Gallery {self.name}: {len(self):,} places, {self.encoder}, {self.layers}, "
            f"{self.dtype}>"
        )

    def load_encoder(self, *, device: str | None = None) -> LocationEncoder:
        """Load the location encoder again, to encode other places in the gallery's space.

        Parameters
        ----------
        device : str, optional
            What it computes on; the gallery's device if not given.

        Returns
        -------
        LocationEncoder
            With the gallery's layers; its vectors are of length 1.

        Raises
        ------
        WeightsError
            If it is not where it was, or holds other weights than the gallery was encoded with.
        MissingWeightsError
            If the weights of a registered encoder are not on this machine.

        Examples
        --------
        >>> Gallery.cities(5_000_000).load_encoder().name
        'geoclip.v1'
        """
        return encoder_again(self.facts, self.device if device is None else device)

    # -- using -----------------------------------------------------------------------------------

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        index: str = "exact",
        rows: ArrayLike | None = None,
    ) -> Found:
        """Find the most similar places to vectors.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite. With unit vectors the scores are cosine similarities.
        k : int
            How many places a query, from 1 to their number.
        index : str
            Registered name of how to search.
        rows : array of int or bool, optional
            Search only among these positions, or where a mask of length n is True.

        Returns
        -------
        scores : array of shape (m, k), float32
            Falling.
        rows : array of shape (m, k), int64
            Positions in this gallery; of equal scores the lower one first.

        Raises
        ------
        OptionError
            If shapes, rows or k do not fit, or a query is not finite.
        UnknownNameError
            If there is no such index.
        """
        # An index that knows no parts of a gallery is searched as a whole all the same.
        part = () if rows is None else (positions_of(rows, len(self)),)
        return self.index(index).search(queries, k, *part)

    def index(
        self, name: str = "exact", *, progress: bool | None = None, **options: Any
    ) -> GalleryIndex:
        """Return a way to search the gallery; it is made when it is first asked for, then kept.

        Parameters
        ----------
        name : str
            Registered name, as for `search`.
        progress : bool, optional
            Show a progress bar, where making it takes long.
        **options
            Those of the index. With any of them it is made anew, and `search` uses it from then on.

        Returns
        -------
        GalleryIndex
            Its `facts` say how it was built, and how much it finds.

        Raises
        ------
        UnknownNameError
            If there is no such index.
        OptionError
            If an option does not fit.

        Examples
        --------
        >>> Gallery.cities(5_000_000).index("exact").search(np.eye(1, 512), 1)[1].shape
        (1, 1)
        """
        if name not in self._indexes or options:
            spec = index_spec(name)
            factory = resolve_factory(spec.factory, owner=spec.owner)
            if isinstance(factory, type) and issubclass(factory, GalleryIndex):
                made = factory.for_gallery(self, progress=progress, **options)
            else:
                made = factory(self.embeddings, device=self.device, **options)
            self._indexes[name] = made
        return self._indexes[name]

    def restrict(self, within: Any) -> Self:
        """Return the part of the gallery that lies in polygons.

        Parameters
        ----------
        within : GeoDataFrame, GeoSeries, shapely polygons or callable
            See `geoembed.containing.inside_of`: any CRS; without one lon/lat.

        Returns
        -------
        Gallery
            Its places keep their order.

        Raises
        ------
        CoordinateError
            If no place lies there.
        OptionError
            If `within` holds no polygons.
        """
        return self.take(self.places.rows_within(within))

    def take(self, rows: ArrayLike) -> Self:
        """Return the part of the gallery in some rows.

        Parameters
        ----------
        rows : array of int or bool
            Positions, or a mask of length n; each row once, in the gallery's order.

        Returns
        -------
        Gallery
            The gallery itself if all its rows are taken.

        Raises
        ------
        OptionError
            If they are no rows of the gallery, or none.
        """
        rows = positions_of(rows, len(self))
        if len(rows) == len(self):
            return self
        places = self.places.take(rows)
        facts = self.facts | {"places_sha256": places.digest}
        return type(self)(places, self.embeddings[rows], facts, device=self.device)

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write the gallery into a folder, from which `load` reads it anywhere.

        Parameters
        ----------
        folder : str or Path
            Made by this; ``lonlat.npy``, ``counts.npy``, ``embeddings.npy`` and ``gallery.json``
            come to lie in it, and ``indexes`` if there are any that keep files.
        force : bool
            Replace a folder that is there.

        Raises
        ------
        OptionError
            If the folder is there and is not to be replaced, or is no gallery.
        TableError
            If it cannot be written, or the disk is full; nothing is left behind.
        """
        with staged_indexes(self.folder, folder) as staged:
            path = publish_folder(
                folder,
                self.facts,
                self.places,
                self.embeddings.shape,
                self.dtype,
                _copier(self.embeddings),
                force=force,
            )
            staged(path)
        for made in self._indexes.values():
            made.save(path)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Open a saved gallery; its vectors are memory-mapped.

        Parameters
        ----------
        folder : str or Path
            Written by `save`.
        device : str
            Where it is searched.

        Returns
        -------
        Gallery
            As it was saved.

        Raises
        ------
        TableError
            If it is no gallery, is damaged, or was written by a newer geoembed.
        """
        path = Path(folder).expanduser().absolute()
        facts, arrays = read_folder(path)
        places = GalleryPlaces(
            arrays["lonlat"],
            arrays["counts"],
            str(facts.get("name")),
            str(facts.get("source")),
            str(facts.get("version")),
        )
        return cls(places, arrays["embeddings"], facts, folder=path, device=device)

    def __getstate__(self) -> dict[str, Any]:
        # Indexes hold a second view of the vectors, and are made again when asked for. Vectors that
        # lie in a folder are found there, or encoded again, where the gallery is unpickled.
        state = self.__dict__ | {"_indexes": {}}
        return state if self.folder is None else state | {"embeddings": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["embeddings"] is None:
            self.embeddings, self.folder = find_again(
                self.places, self.facts, self.folder, self.device
            )


def _copier(vectors: NDArray[Any]) -> Callable[[NDArray[Any]], None]:
    def fill(out: NDArray[Any]) -> None:
        out[:] = vectors

    return fill
