"""Honest scores: spatial splits, and comparisons of location encoders."""

from geoembed.evaluation.autocorrelation import autocorrelation_range_km, suggest_block_km
from geoembed.evaluation.cached import CachedEncoder
from geoembed.evaluation.compare import compare_encoders, run_protocol
from geoembed.evaluation.comparison import Comparison
from geoembed.evaluation.contenders import adapt_encoder
from geoembed.evaluation.protocols import list_protocols, load_protocol
from geoembed.evaluation.regions import LeaveRegionOut
from geoembed.evaluation.separation import nearest_train_km
from geoembed.evaluation.splits import (
    BufferedLeaveOneBlockOut,
    SpatialBlockKFold,
    spatial_holdout,
)

__all__ = [
    "BufferedLeaveOneBlockOut",
    "CachedEncoder",
    "Comparison",
    "LeaveRegionOut",
    "SpatialBlockKFold",
    "adapt_encoder",
    "autocorrelation_range_km",
    "compare_encoders",
    "list_protocols",
    "load_protocol",
    "nearest_train_km",
    "run_protocol",
    "spatial_holdout",
    "suggest_block_km",
]
