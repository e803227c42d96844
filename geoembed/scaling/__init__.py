"""Tables beyond one machine: record batches for any engine, folders of Parquet on dask.

`embed_batches` is one function from record batches to record batches, which Spark, Ray Data,
DuckDB and polars can call. `embed_folder` embeds a folder of Parquet files part by part, on the
workers of a dask cluster or on this machine, and can be gone on with after any failure.
"""

from typing import TYPE_CHECKING

from geoembed.lazy import resolver

if TYPE_CHECKING:
    from geoembed.scaling.batches import embed_batches as embed_batches
    from geoembed.scaling.folder import FolderReport as FolderReport
    from geoembed.scaling.folder import embed_folder as embed_folder

# Resolved when first used: schedulers and nannies load a module of this room, and no more.
_HOME = {"FolderReport": "folder", "embed_batches": "batches", "embed_folder": "folder"}

__all__ = ["FolderReport", "embed_batches", "embed_folder"]

__getattr__ = resolver(__name__, {name: f"{__name__}.{home}" for name, home in _HOME.items()})
