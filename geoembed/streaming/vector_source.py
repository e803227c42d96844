"""Read GeoPackage, GeoJSON, FlatGeobuf and shapefiles as streams of Arrow tables."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from geoembed.errors import TableError, unknown_name
from geoembed.streaming.geoparquet import GEOMETRY_COLUMN, GeoColumn
from geoembed.streaming.sources import VECTOR_SUFFIXES, Source

__all__ = ["VectorSource"]

# Rows that GDAL hands over at a time: few enough for large polygons, many enough for points.
_ROWS: Final = 4096


class VectorSource(Source):
    """A layer of a file that GDAL reads.

    Parameters
    ----------
    path : Path
        Of the file; a ``.zip`` holds a shapefile.
    layer : str or None
        Which one; None takes the only one with geometries.
    """

    def __init__(self, path: Path, layer: str | None) -> None:
        self.path = path
        _check_length(path)
        _check_archive(path)
        with self._failing():
            self._layer = self._choose(layer)
            info = pyogrio.read_info(path, layer=self._layer)
        # -1 is what formats say that would have to be read for it.
        self.rows = info["features"] if info["features"] >= 0 else None
        self._columns: list[str] | None = None
        with self._open() as (meta, reader):
            self._geometry = meta["geometry_name"] or "wkb_geometry"
            names = [n for n in reader.schema.names if n != self._geometry]
            spatial = len(names) < len(reader.schema.names)
            crs = None if meta["crs"] is None else CRS.from_user_input(meta["crs"])
            # As geopandas calls it when it reads such a file; a free name if an attribute has it.
            self._name = GEOMETRY_COLUMN
            while self._name in names:
                self._name += "_"
            self.geometries = [GeoColumn(self._name, crs)] if spatial else []
            self.schema = self._clean(reader.schema.empty_table()).schema

    def files(self) -> list[Path]:
        """Return the files that the table is in: attributes of a shapefile have their own."""
        parts = [self.path.with_suffix(suffix) for suffix in (".dbf", ".DBF", ".prj")]
        shapefile = self.path.suffix.lower() == ".shp"
        return [self.path, *(part for part in parts if shapefile and part.exists())]

    def select(self, columns: list[str]) -> None:
        """Read only these columns."""
        self._columns = [name for name in columns if name != self._name]
        self.schema = pa.schema([self.schema.field(name) for name in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Read the rows in the order of the file."""
        count = 0
        with self._open() as (_, reader), self._failing():
            for batch in reader:
                count += len(batch)
                yield self._clean(pa.Table.from_batches([batch])).select(self.schema.names)
        if self.rows is not None and count != self.rows:
            raise TableError(
                f"{self.path} is damaged: it announces {self.rows:,} rows, and {count:,} can be "
                "read."
            )

    def _clean(self, table: pa.Table) -> pa.Table:
        """Geometry last and under our name, plain types, no metadata of GDAL's."""
        names = [name for name in table.schema.names if name != self._geometry]
        columns = [_plain(table.column(name)) for name in names]
        if self.geometries:
            names.append(self._name)
            columns.append(table.column(self._geometry).cast(pa.binary()))
        return pa.table(columns, names=names)

    def _choose(self, layer: str | None) -> str:
        layers = {str(name): kind for name, kind in pyogrio.list_layers(self.path)}
        if layer is not None:
            if layer not in layers:
                raise unknown_name(f"layer in {self.path.name}", layer, layers)
            return layer
        spatial = [name for name, kind in layers.items() if kind is not None] or list(layers)
        if len(spatial) != 1:
            raise TableError(
                f"{self.path.name} has {len(spatial)} layers: {', '.join(map(repr, spatial))}. "
                "Choose one with layer=."
                if spatial
                else f"{self.path} holds no layer."
            )
        return spatial[0]

    @contextmanager
    def _open(self) -> Iterator[tuple[dict[str, Any], Any]]:
        with (
            self._failing(),
            pyogrio.raw.open_arrow(
                self.path,
                layer=self._layer,
                columns=self._columns,
                batch_size=_ROWS,
                use_pyarrow=True,
            ) as opened,
        ):
            yield opened

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (DataSourceError, DataLayerError, pa.ArrowException, OSError) as error:
            raise TableError(f"{self.path} cannot be read: {error}") from error


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Storage of extension types, such as JSON, which not every reader knows."""
    if isinstance(column.type, pa.BaseExtensionType):
        return column.cast(column.type.storage_type)
    return column


def _check_archive(path: Path) -> None:
    """Refuse an archive without anything for GDAL: it would try what else is in there."""
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(name.lower().endswith(VECTOR_SUFFIXES) for name in names):
        held = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        raise TableError(
            f"{path} holds no shapefile, but {held or 'nothing'}. Unpack it and give a table file."
        )


def _check_length(path: Path) -> None:
    """Refuse a shapefile that is cut off: GDAL would read the lost geometries as missing."""
    if path.suffix.lower() != ".shp":
        return
    with path.open("rb") as file:
        header = file.read(28)
    # ESRI Shapefile Technical Description (1998): the length in 16-bit words, big-endian.
    announced = 2 * int.from_bytes(header[24:28], "big")
    if path.stat().st_size < announced:
        raise TableError(
            f"{path} is damaged: it announces {announced:,} bytes and has {path.stat().st_size:,}."
        )
