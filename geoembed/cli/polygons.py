"""Files of polygons that an option names."""

from pathlib import Path
from typing import Any

from geoembed.errors import TableError

__all__ = ["read_polygons"]


def read_polygons(path: Path) -> Any:
    """Read a file of polygons, whatever its format, as a GeoDataFrame."""
    if not path.exists():
        raise TableError(f"There is no file {path}.")
    import geopandas as gpd

    read = gpd.read_parquet if path.suffix.lower() in {".parquet", ".geoparquet"} else gpd.read_file
    try:
        return read(path)
    except Exception as error:  # every driver has its own
        why = " ".join(str(error).split())
        raise TableError(f"{path} cannot be read as a file of polygons: {why}") from error
