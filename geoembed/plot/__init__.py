"""Maps of embeddings, drawn with matplotlib from the shipped outlines; nothing is fetched.

Every function takes arrays, draws on the Axes it is given (or on new ones) and returns them. None
calls ``show`` or changes matplotlib's settings, so they work alike in scripts, in notebooks and
on machines without a display. Importing this package does not import matplotlib.
"""

from geoembed.plot.answers import answers_map
from geoembed.plot.axes import world_axes
from geoembed.plot.charts import error_map, score_chart
from geoembed.plot.curves import cumulative_error_curve, distance_error_map
from geoembed.plot.maps import embedding_map, similarity_map

__all__ = [
    "answers_map",
    "cumulative_error_curve",
    "distance_error_map",
    "embedding_map",
    "error_map",
    "score_chart",
    "similarity_map",
    "world_axes",
]
