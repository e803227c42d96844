"""Write GeoPackage, FlatGeobuf and GeoJSON batch by batch, through GDAL."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from geoembed.errors import TableError
from geoembed.streaming.geoparquet import GeoColumn
from geoembed.streaming.sources import VECTOR_SUFFIXES, Source

__all__ = ["VECTOR_DRIVERS", "VectorSink", "geometry_type"]

VECTOR_DRIVERS: Mapping[str, str] = MappingProxyType(
    {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".geojsonl": "GeoJSONSeq"}
)
"""Suffix of a file -> GDAL's driver that writes it."""


class VectorSink:
    """A vector file that is written in one go, from batches.

    Parameters
    ----------
    path : Path
        The file; its suffix says which kind.
    schema : pyarrow.Schema
        Of the batches.
    geometry : GeoColumn
        The column of geometries, as WKB.
    kind : str
        Of the geometries: ``"Point"`` and so on, or ``"Unknown"``.
    """

    def __init__(self, path: Path, schema: pa.Schema, geometry: GeoColumn, kind: str) -> None:
        self._path, self._geometry, self._kind = path, geometry, kind
        # GDAL reads Arrow's metadata and would take that of other formats for its own.
        self._schema = schema.remove_metadata()

    def write(self, batches: Iterator[pa.Table], *, layer: str) -> None:
        """Write all rows.

        Parameters
        ----------
        batches : iterator of pyarrow.Table
            Of the schema. An error of theirs is passed on as it is.
        layer : str
            Name of the layer.

        Raises
        ------
        TableError
            If the format cannot hold a column.
        """
        failed: list[BaseException] = []
        try:
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(self._schema, self._parts(batches, failed)),
                self._path,
                layer=layer,
                driver=VECTOR_DRIVERS[self._path.suffix],
                geometry_name=self._geometry.name,
                geometry_type=self._kind,
                crs=_usual_name(self._geometry.crs),
            )
        except Exception as error:
            if failed:
                raise failed[0] from None
            if isinstance(error, DataSourceError | DataLayerError | pa.ArrowException | ValueError):
                raise TableError(
                    f"The table cannot be written as {self._path.suffix}: {error}. Write .parquet, "
                    "which holds every column."
                ) from error
            raise
        if failed:
            raise failed[0]

    def _parts(
        self, batches: Iterator[pa.Table], failed: list[BaseException]
    ) -> Iterator[pa.RecordBatch]:
        # Arrow's C interface makes texts of errors: the error itself is kept aside.
        try:
            for table in batches:
                yield from table.replace_schema_metadata().combine_chunks().to_batches()
        except BaseException as error:
            failed.append(error)
            raise


def _usual_name(crs: CRS | None) -> str | None:
    """Name a CRS as users of maps know it; all formats here put longitude first."""
    if crs is None:
        return None
    return "EPSG:4326" if crs.equals(CRS(4326), ignore_axis_order=True) else str(crs.to_wkt())


def geometry_type(source: Source) -> str:
    """Return the kind of all geometries of a source, ``"Unknown"`` where it does not say.

    Parameters
    ----------
    source : Source
        Of places, which are points where it has no geometries.

    Returns
    -------
    str
        As GDAL names it.
    """
    if not source.geometries:
        return "Point"
    if source.path.name.lower().endswith(VECTOR_SUFFIXES):
        return _asked_gdal(source)
    kinds = (source.geometries[0].facts or {}).get("geometry_types") or []
    return str(kinds[0]) if len(kinds) == 1 else "Unknown"


def _asked_gdal(source: Any) -> str:
    found = pyogrio.read_info(source.path, layer=source._layer)["geometry_type"]
    return "Unknown" if found is None else str(found)
