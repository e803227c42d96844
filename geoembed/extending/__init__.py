"""How plugins add to geoembed: specs, hooks, the manager and the registry.

A plugin needs nothing but the names exported here; importing them loads
neither torch nor geopandas.
"""

from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.hookspecs import hookimpl, hookspec
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.report import GeoembedPluginWarning, PluginInfo
from geoembed.extending.specs import HeadSpec, LocationEncoderSpec, WeightsFile, WeightsSpec

__all__ = [
    "GallerySpec",
    "GeoembedPluginWarning",
    "HeadSpec",
    "ImageEncoderSpec",
    "IndexSpec",
    "LocationEncoderSpec",
    "PluginInfo",
    "Preprocessing",
    "WeightsFile",
    "WeightsSpec",
    "hookimpl",
    "hookspec",
]
