"""From photographs and texts to places: retrieval, refinement, uncertainty."""

from geoembed.geolocation.localizer import GeoLocalizer
from geoembed.geolocation.queries import Queries
from geoembed.geolocation.refining import Refined, refine

__all__ = ["GeoLocalizer", "Queries", "Refined", "refine"]
