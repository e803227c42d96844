"""Honest scores: spatial splits, and comparisons of location encoders."""

from geoembed.evaluation.autocorrelation import autocorrelation_range_km, suggest_block_km
from geoembed.evaluation.regions import LeaveRegionOut
from geoembed.evaluation.separation import nearest_train_km
from geoembed.evaluation.splits import (
    BufferedLeaveOneBlockOut,
    SpatialBlockKFold,
    spatial_holdout,
)

__all__ = [
    "BufferedLeaveOneBlockOut",
    "LeaveRegionOut",
    "SpatialBlockKFold",
    "autocorrelation_range_km",
    "nearest_train_km",
    "spatial_holdout",
    "suggest_block_km",
]
