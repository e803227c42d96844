"""Scores on a map: a user's own places, and the whole Earth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import geopandas as gpd
import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.data import land_grid
from geoembed.errors import OptionError, TableError
from geoembed.featurizer import encode_places
from geoembed.geolocation.asking import Asking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Mapping"]

# A longer name of a column or in a caption helps nobody.
_SHOWN: Final = 60
# A map of 0.05 degrees has 21 million cells, a fourth of them land: hours of encoding.
_MOST_CELLS: Final = 25_000_000


class Mapping(Asking):
    """What a localizer says of places that are not in its gallery; see `geoembed.GeoLocalizer`."""

    def similarity(
        self,
        images: Any = None,
        gdf: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        tta: str | None = None,
        column: Any = None,
        geometry: str = "point",
    ) -> gpd.GeoDataFrame:
        """Score places of your own: how well each fits a photograph or a text.

        Parameters
        ----------
        images, text, vectors, tta, column
            As in `localize`.
        gdf : GeoDataFrame
            The places.
        geometry : {"point", "representative_point", "centroid", "sample"}
            What stands for a geometry that is not a point, as in `geoembed.read_places`.

        Returns
        -------
        GeoDataFrame
            A copy of `gdf` with the column ``score`` (cosine similarity), or one column
            ``score_NAME`` a query where there are several. NaN for a picture with an error.

        Raises
        ------
        TableError
            If `gdf` is no GeoDataFrame, or has a column of that name.
        CoordinateError
            If its places cannot be read.

        Examples
        --------
        >>> import geoembed as ge
        >>> towns = ge.data.load_cities().head(3)
        >>> localizer = ge.GeoLocalizer("cities").fit()
        >>> vector = ge.encode(towns["lon"], towns["lat"], normalize=True)[0]
        >>> scored = localizer.similarity(vectors=vector, gdf=towns)
        >>> float(scored["score"].iloc[0].round(3))
        1.0
        """
        if not isinstance(gdf, gpd.GeoDataFrame):
            raise TableError(
                f"gdf= is {type(gdf).__name__}, not a GeoDataFrame: give the table of places to "
                "score."
            )
        queries = self.ask(images, text=text, vectors=vectors, tta=tta, column=column)
        queries.tell()
        encoded = encode_places(
            self._location_encoder, read_places(gdf, geometry=geometry), progress=self.progress
        )
        scores = np.asarray(encoded, dtype=np.float32) @ queries.vectors.T
        columns = _score_columns(queries.names)
        taken = [name for name in columns if name in gdf.columns]
        if taken:
            raise TableError(
                f"gdf has a column {taken[0]!r} already, which the scores would overwrite. Rename "
                "or drop it."
            )
        return gdf.assign(**dict(zip(columns, scores.T, strict=True)))

    def similarity_map(
        self,
        images: Any = None,
        *,
        text: str | None = None,
        vectors: ArrayLike | None = None,
        step: float = 1.0,
        extent: Sequence[float] | None = None,
        tta: str | None = None,
        **style: Any,
    ) -> "Axes":
        """Show where on Earth a photograph or a text could be: scores of all land.

        Parameters
        ----------
        images, text, vectors, tta
            One query, as in `localize`.
        step : float
            Size of the map's cells in degrees. A degree takes a few seconds the first time, half
            a degree four times as long; the vectors of the last grid are kept.
        extent : sequence of 4 floats, optional
            West, south, east and north in degrees; the land between 60 S and 84 N if not given.
        **style
            Options of `geoembed.plot.similarity_map`, such as ``ax``, ``cmap`` and ``title``.

        Returns
        -------
        matplotlib.axes.Axes
            The map; ``ax.figure.savefig("map.png")`` writes it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        OptionError
            If there is not exactly one query, it has an error (such as a picture that cannot be
            read), or `step` is too small or no size.

        Notes
        -----
        The paper's qualitative experiment (section 5 of Vivanco Cepeda et al. 2023). Scores are
        cosines, no probabilities: the map shows which places fit better, not how likely one is.
        """
        from geoembed.plot import similarity_map

        queries = self.ask(images, text=text, vectors=vectors, tta=tta)
        if len(queries) != 1:
            raise OptionError(
                f"A map shows one query, and {len(queries):,} were given. Draw one map each, or "
                "fuse photographs of one place first."
            )
        if queries.errors[0]:
            raise OptionError(f"{queries.names[0]} cannot be mapped: {queries.errors[0]}")
        extent = (-180.0, -60.0, 180.0, 84.0) if extent is None else extent
        # What is no extent or no step is told by what lays the grid.
        fine = len(extent) == 4 and step > 0
        cells = (extent[2] - extent[0]) * (extent[3] - extent[1]) / step**2 if fine else 0.0
        if cells > _MOST_CELLS:
            raise OptionError(
                f"step={step:g} makes {cells:,.0f} cells, more than {_MOST_CELLS:,} can be "
                "encoded: take a larger step, or a smaller extent."
            )
        lon, lat, encoded = self._grid(float(step), tuple(extent))
        options = {"kind": "grid", "title": _shorten(queries.names[0]), "extent": extent} | style
        return similarity_map(lon, lat, encoded, queries.vectors[0], name=None, **options)

    def _grid(
        self, step: float, extent: tuple[float, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Return the land in cells and its vectors, kept from one map to the next."""
        key = (step, extent, self._location_encoder.weights_sha256)
        kept = getattr(self, "_kept_grid", None)
        if kept is None or kept[0] != key:
            lon, lat = land_grid(step, extent=extent)
            encoded = self._location_encoder.encode(lon, lat, progress=self.progress)
            kept = self._kept_grid = (key, (lon, lat, np.asarray(encoded, dtype=np.float32)))
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        # A kept grid is quickly made again and large.
        state: Any = super().__getstate__()
        return {key: value for key, value in state.items() if not key.startswith("_kept")}


def _score_columns(names: Sequence[str]) -> list[str]:
    if len(names) == 1:
        return ["score"]
    columns = [f"score_{_shorten(name)}" for name in names]
    if len(set(columns)) < len(columns):
        columns = [f"{column}_{position}" for position, column in enumerate(columns)]
    return columns


def _shorten(name: str) -> str:
    return name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "..."
