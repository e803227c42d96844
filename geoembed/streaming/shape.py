"""What stands beside the vectors in the file that is written, and how it comes from the source."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from geoembed.coordinates import Places
from geoembed.errors import TableError
from geoembed.streaming.geoparquet import (
    CRS84,
    GEOMETRY_COLUMN,
    GeoColumn,
    Summary,
    decode_geometries,
    encode_points,
)
from geoembed.streaming.sources import Source
from geoembed.tables import columns_to_replace

__all__ = ["Shape"]

_LONLAT: Final = ("lon", "lat")


class Shape:
    """The columns of the result but for the vectors.

    Parquet keeps every column; rows that come from coordinate columns get a geometry besides
    (points in OGC:CRS84), so that the file is GeoParquet. CSV keeps every column but the
    geometry, which becomes the columns lon and lat: the place that was encoded, degrees, WGS 84.
    With ``geometry="sample"``, which encodes no single place, it becomes well-known text. ``.npy``
    keeps nothing.

    Parameters
    ----------
    source : Source
        What is read.
    kind : {"parquet", "csv", "npy"}
        What is written.
    names : list of str
        Columns of the embedding, which come last.
    overwrite : bool
        Leave out columns of the source whose names are needed; else they are an error.
    choice : str
        The option ``geometry``.
    otherwise : str
        What else helps where a column is there already, for the message.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the tables that `columns` returns.
    geometries : list of GeoColumn
        Geometry columns of the result, the primary one first.
    """

    def __init__(
        self,
        source: Source,
        kind: str,
        names: list[str],
        *,
        overwrite: bool,
        choice: str,
        otherwise: str = "another prefix=",
    ) -> None:
        self._source = source
        self._added: list[pa.Field] = []
        self.geometries: list[GeoColumn] = []
        taken = list(source.schema.names)
        if kind == "npy":
            taken = []
        elif kind == "csv" and source.geometries and source.lonlat is None:
            taken.remove(source.geometries[0].name)
            if choice == "sample":
                self._added = [pa.field(source.geometries[0].name, pa.string())]
            else:
                self._added = [pa.field(name, pa.float64()) for name in _LONLAT]
        elif kind == "parquet" and not source.geometries:
            name = GEOMETRY_COLUMN
            while name in taken:
                name += "_"
            self._added = [pa.field(name, pa.binary())]
            self.geometries = [GeoColumn(name, CRS84)]
        elif kind == "parquet":
            self.geometries = list(source.geometries)
        new = [field.name for field in self._added] + names
        replaced = columns_to_replace(taken, new, overwrite=overwrite, otherwise=otherwise)
        self._taken = [name for name in taken if name not in replaced]
        lost = [g.name for g in self.geometries if g.name in names]
        if lost:
            raise TableError(
                f"The new column cannot replace the geometry column {lost[0]!r}. Choose "
                f"{otherwise}."
            )
        fields = [source.schema.field(name) for name in self._taken] + self._added
        if self.geometries:
            # Cells that cannot be read are left empty.
            at = [field.name for field in fields].index(self.geometries[0].name)
            fields[at] = fields[at].with_nullable(True)
        self.schema = pa.schema(fields, metadata=source.schema.metadata)

    def columns(
        self,
        table: pa.Table,
        places: Places,
        geoms: NDArray[np.object_] | None,
        rows: NDArray[np.bool_] | None,
        summary: Summary,
    ) -> pa.Table:
        """Return the columns of some rows.

        Parameters
        ----------
        table : pyarrow.Table
            Of the source.
        places, geoms
            As `Source.read_places` gives them.
        rows : array of bool or None
            Which to keep; None keeps all.
        summary : Summary
            Takes in the geometries of the rows kept.
        """
        added: list[Any] = []
        if self.geometries and self._added:
            wkb, geoms = encode_points(places.lonlat)
            added = [wkb]
        elif self._added and self._added[0].type == pa.string():
            added = [pa.array(shapely.to_wkt(geoms, rounding_precision=-1), pa.string())]
        elif self._added:
            added = [pa.array(places.lonlat[:, i], from_pandas=True) for i in (0, 1)]
        elif self.geometries and geoms is None:
            primary = self.geometries[0]
            geoms = decode_geometries(table.column(primary.name), primary)
        elif self.geometries:
            table = _without_unread(table, self.geometries[0].name, geoms)
        kept = [table.column(name) for name in self._taken] + added
        result = pa.table(kept, schema=self.schema)
        if self.geometries:
            assert geoms is not None
            summary.add(geoms if rows is None else geoms[rows])
        # A table without columns has no rows to leave out.
        return result if rows is None or not kept else result.filter(pa.array(rows))


def _without_unread(table: pa.Table, name: str, geoms: NDArray[np.object_] | None) -> pa.Table:
    """Leave cells empty that were read as no geometry: nobody else could open the file."""
    column = table.column(name)
    unread = shapely.is_missing(geoms) & column.is_valid().to_numpy()
    if not unread.any():
        return table
    at = table.schema.get_field_index(name)
    cells = [
        None if left_out else cell
        for left_out, cell in zip(unread.tolist(), column.to_pylist(), strict=True)
    ]
    field = table.schema.field(at).with_nullable(True)
    return table.set_column(at, field, pa.array(cells, column.type))
