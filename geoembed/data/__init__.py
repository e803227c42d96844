"""Countries, outlines and cities that come with the package, and questions to ask of them.

Everything is read from the installed package: no network, no cache folder. Where the files come
from and how they are remade stands in ``README.md`` beside them.
"""

from geoembed.data.loaders import load_cities, load_countries, load_land, load_outlines
from geoembed.data.lookup import is_land, label_country, land_grid, nearest_city

__all__ = [
    "is_land",
    "label_country",
    "land_grid",
    "load_cities",
    "load_countries",
    "load_land",
    "load_outlines",
    "nearest_city",
]
