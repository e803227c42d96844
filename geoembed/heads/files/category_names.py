"""Names of classes beside a raster, where GDAL and QGIS look for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["write_category_names"]


def write_category_names(raster: Path, classes: Mapping[int, Sequence[str]]) -> None:
    """Write the names of the classes of some bands into ``RASTER.aux.xml``.

    GeoTIFF has no place of its own for them. This file is GDAL's ("persistent auxiliary
    metadata"), and QGIS reads it too.

    Parameters
    ----------
    raster : Path
        The raster, there already or to come.
    classes : mapping of int to sequence of str
        Number of a band, from 1 on -> names of its values 0, 1, 2 and so on. If it is empty,
        nothing is written, and an older file of that name is removed.

    Examples
    --------
    >>> write_category_names(Path("map.tif"), {1: ["forest", "water"]})
    >>> Path("map.tif.aux.xml").read_text().count("<Category>")
    2
    """
    path = raster.with_name(raster.name + ".aux.xml")
    if not classes:
        path.unlink(missing_ok=True)
        return
    root = ElementTree.Element("PAMDataset")
    for number, names in classes.items():
        band = ElementTree.SubElement(root, "PAMRasterBand", band=str(number))
        listed = ElementTree.SubElement(band, "CategoryNames")
        for name in names:
            ElementTree.SubElement(listed, "Category").text = name
    ElementTree.indent(root)
    draft = path.with_name(path.name + ".new")
    ElementTree.ElementTree(root).write(draft, encoding="utf-8")
    draft.replace(path)
