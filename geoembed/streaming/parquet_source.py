"""Read Parquet and GeoParquet files as streams of Arrow tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from geoembed.errors import TableError
from geoembed.streaming.geoparquet import read_geo_columns
from geoembed.streaming.sources import Source

__all__ = ["ParquetSource"]

_ROWS: Final = 16_384
# Read in pieces of so many bytes, instead of a whole column of a row group at once.
_BUFFER: Final = 1 << 20


class ParquetSource(Source):
    """A Parquet file, with geometries or with coordinate columns.

    Parameters
    ----------
    path : Path
        Of the file.
    opened : pyarrow.parquet.ParquetFile, optional
        The file, where it is open already.
    """

    def __init__(self, path: Path, opened: pq.ParquetFile | None = None) -> None:
        self.path = path
        try:
            self._file = opened or pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{path} is no readable Parquet file: {error}") from error
        self.schema = self._file.schema_arrow
        self.rows = self._file.metadata.num_rows
        # pyarrow shows the file's own key-value pairs only where it wrote the schema itself.
        own = {
            k: v for k, v in (self._file.metadata.metadata or {}).items() if k != b"ARROW:schema"
        }
        self.schema = self.schema.with_metadata({**own, **(self.schema.metadata or {})})
        self._columns: list[str] | None = None
        self._groups: list[int] | None = None
        self.geometries = read_geo_columns(self.schema, path.name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def select(self, columns: list[str]) -> None:
        """Read only these columns."""
        self._columns = columns
        self.schema = pa.schema([self.schema.field(name) for name in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Read the rows in the order of the file."""
        try:
            for batch in self._file.iter_batches(_ROWS, self._groups, columns=self._columns):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{self.path} is damaged: {error}") from error
