"""Places in, meaningful vectors out.

`geoembed` turns a table of places into one embedding a place with the trained
GeoCLIP location encoder, and hosts plugins that bring further encoders and
commands. Public names are resolved when first used, so that ``import
geoembed`` stays fast and never imports torch by itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoembed.lazy import resolver

__version__ = "0.1.0"

# Public name -> module that defines it. One line a name; nothing else is public here.
_HOME = {
    "embed": "geoembed.tables",
    "encode": "geoembed.featurizer",
    "LocationFeaturizer": "geoembed.featurizer",
    "LocationEncoder": "geoembed.encoders.base",
    "embed_file": "geoembed.streaming",
    "similar_places": "geoembed.similar",
    "load_encoder": "geoembed.encoders",
    "list_encoders": "geoembed.encoders",
    "read_places": "geoembed.coordinates",
    "Places": "geoembed.coordinates",
    "sample_raster": "geoembed.targets",
    "class_fractions": "geoembed.targets",
    "zonal_mean": "geoembed.targets",
    "label_regions": "geoembed.targets",
    "LocationRegressor": "geoembed.heads.location",
    "LocationClassifier": "geoembed.heads.location",
    "LandCoverRegressor": "geoembed.heads.landcover",
    "RegionClassifier": "geoembed.heads.regions",
    "make_head": "geoembed.heads",
    "load_head": "geoembed.heads.saving.store",
    "split_labels": "geoembed.heads.labels.sets",
    "predict_raster": "geoembed.heads.files.rasters",
    "SpatialBlockKFold": "geoembed.splits",
    "BufferedLeaveOneBlockOut": "geoembed.splits",
    "LeaveRegionOut": "geoembed.splits",
    "compare_encoders": "geoembed.evaluation.compare",
    "evaluate_geolocation": "geoembed.evaluation.geolocation",
    "evaluate_manifest": "geoembed.evaluation.geolocation",
    "GeoLocalizer": "geoembed.geolocation",
    "Gallery": "geoembed.galleries",
    "load_gallery": "geoembed.galleries",
    "list_galleries": "geoembed.galleries",
    "load_image_encoder": "geoembed.images",
    "list_image_encoders": "geoembed.images",
    "read_gps": "geoembed.images.gps",
    "GeoembedError": "geoembed.errors",
    "CoordinateError": "geoembed.errors",
}
_ROOMS = (
    "data",
    "errors",
    "evaluation",
    "galleries",
    "geodesy",
    "geolocation",
    "heads",
    "images",
    "plot",
    "scaling",
    "splits",
    "targets",
    "testing",
    "training",
    "webmap",
)

__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from geoembed.coordinates import Places as Places
    from geoembed.coordinates import read_places as read_places
    from geoembed.encoders import list_encoders as list_encoders
    from geoembed.encoders import load_encoder as load_encoder
    from geoembed.encoders.base import LocationEncoder as LocationEncoder
    from geoembed.errors import CoordinateError as CoordinateError
    from geoembed.errors import GeoembedError as GeoembedError
    from geoembed.evaluation.compare import compare_encoders as compare_encoders
    from geoembed.evaluation.geolocation import evaluate_geolocation as evaluate_geolocation
    from geoembed.evaluation.geolocation import evaluate_manifest as evaluate_manifest
    from geoembed.featurizer import LocationFeaturizer as LocationFeaturizer
    from geoembed.featurizer import encode as encode
    from geoembed.galleries import Gallery as Gallery
    from geoembed.galleries import list_galleries as list_galleries
    from geoembed.galleries import load_gallery as load_gallery
    from geoembed.geolocation import GeoLocalizer as GeoLocalizer
    from geoembed.heads import make_head as make_head
    from geoembed.heads.files.rasters import predict_raster as predict_raster
    from geoembed.heads.labels.sets import split_labels as split_labels
    from geoembed.heads.landcover import LandCoverRegressor as LandCoverRegressor
    from geoembed.heads.location import LocationClassifier as LocationClassifier
    from geoembed.heads.location import LocationRegressor as LocationRegressor
    from geoembed.heads.regions import RegionClassifier as RegionClassifier
    from geoembed.heads.saving.store import load_head as load_head
    from geoembed.images import list_image_encoders as list_image_encoders
    from geoembed.images import load_image_encoder as load_image_encoder
    from geoembed.images.gps import read_gps as read_gps
    from geoembed.similar import similar_places as similar_places
    from geoembed.splits import BufferedLeaveOneBlockOut as BufferedLeaveOneBlockOut
    from geoembed.splits import LeaveRegionOut as LeaveRegionOut
    from geoembed.splits import SpatialBlockKFold as SpatialBlockKFold
    from geoembed.streaming import embed_file as embed_file
    from geoembed.tables import embed as embed
    from geoembed.targets import class_fractions as class_fractions
    from geoembed.targets import label_regions as label_regions
    from geoembed.targets import sample_raster as sample_raster
    from geoembed.targets import zonal_mean as zonal_mean


_find = resolver(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return import_module(f"geoembed.{name}") if name in _ROOMS else _find(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
