"""From photographs and texts to places: retrieval, refinement, uncertainty."""

from geoembed.geolocation.calibration import Calibration
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.localizer import GeoLocalizer
from geoembed.geolocation.queries import Queries, UnreadablePictureWarning
from geoembed.geolocation.refining import Refined, refine
from geoembed.geolocation.regions import credible_regions

__all__ = [
    "Calibration",
    "EarthDensity",
    "GeoLocalizer",
    "Queries",
    "Refined",
    "UnreadablePictureWarning",
    "credible_regions",
    "refine",
]
