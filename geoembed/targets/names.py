"""Names of the classes of a raster, as its file gives them."""

from typing import Any
from xml.etree import ElementTree

from rasterio.io import MemoryFile
from rasterio.shutil import copy

from geoembed.targets.raster import band_numbers, opened

__all__ = ["class_names"]

# Usage of columns in a raster attribute table: the class name, and the value (MinMax, Min).
_NAME, _VALUES = "2", ("5", "3")


def class_names(raster: Any, band: int | str = 1) -> dict[float, str]:
    """Read the names of a raster's classes: category names, or a raster attribute table.

    Parameters
    ----------
    raster : path, address or open rasterio dataset
        The raster.
    band : int or str
        Number from 1, or description.

    Returns
    -------
    dict
        Value -> name, as `class_fractions` and `sample_raster` take it, without nameless values;
        empty where the file has no names.

    Raises
    ------
    TargetError
        If the raster cannot be opened.
    OptionError
        If there is no such band.

    Examples
    --------
    >>> import numpy as np, rasterio
    >>> with rasterio.MemoryFile() as memory:
    ...     profile = dict(driver="GTiff", dtype="uint8", count=1, width=2, height=1, crs=4326)
    ...     with memory.open(transform=rasterio.Affine(1, 0, 5, 0, -1, 50), **profile) as new:
    ...         new.write(np.array([[[3, 4]]], dtype="uint8"))
    ...     with memory.open() as raster:
    ...         class_names(raster)
    {}
    """
    # rasterio has no call for either; a virtual copy spells out both, whatever the format.
    with opened(raster) as dataset, MemoryFile(ext=".vrt") as file:
        (number,) = band_numbers(dataset, band, repr(dataset.name))
        copy(dataset, file.name, driver="VRT")
        tree = ElementTree.fromstring(file.read())
    (found,) = tree.findall(f"VRTRasterBand[@band='{number}']")
    names = [element.text for element in found.findall("CategoryNames/Category")]
    categories = {float(value): name for value, name in enumerate(names) if name and name.strip()}
    return categories or _attribute_table(found)


def _attribute_table(band: Any) -> dict[float, str]:
    usage = [
        field.findtext("Usage") for field in band.findall("GDALRasterAttributeTable/FieldDefn")
    ]
    values = [at for use in _VALUES for at, found in enumerate(usage) if found == use]
    if not values or _NAME not in usage:
        return {}
    name = usage.index(_NAME)
    rows = [
        [cell.text or "" for cell in row.findall("F")]
        for row in band.findall("GDALRasterAttributeTable/Row")
    ]
    return {float(row[values[0]]): row[name] for row in rows if row[name].strip()}
