"""Tables beyond one machine: record batches for any engine, folders of Parquet on dask.

`embed_batches` is one function from record batches to record batches, which Spark, Ray Data,
DuckDB and polars can call. `embed_folder` embeds a folder of Parquet files part by part, on the
workers of a dask cluster or on this machine, and can be gone on with after any failure.
"""

from geoembed.scaling.batches import embed_batches
from geoembed.scaling.folder import FolderReport, embed_folder

__all__ = ["FolderReport", "embed_batches", "embed_folder"]
