"""What there is to predict: values of rasters and labels of polygons at places."""

from geoembed.targets.names import class_names
from geoembed.targets.regions import label_regions
from geoembed.targets.sampling import OutsideRasterWarning, sample_raster
from geoembed.targets.zones import class_fractions, zonal_mean

__all__ = [
    "OutsideRasterWarning",
    "class_fractions",
    "class_names",
    "label_regions",
    "sample_raster",
    "zonal_mean",
]
