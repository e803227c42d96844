"""Spatial splits: which places to learn from and which to test on, as scikit-learn splitters."""

from geoembed.splits.autocorrelation import autocorrelation_range_km, suggest_block_km
from geoembed.splits.block_splits import (
    BufferedLeaveOneBlockOut,
    SpatialBlockKFold,
    spatial_holdout,
)
from geoembed.splits.regions import LeaveRegionOut
from geoembed.splits.separation import nearest_train_km

__all__ = [
    "BufferedLeaveOneBlockOut",
    "LeaveRegionOut",
    "SpatialBlockKFold",
    "autocorrelation_range_km",
    "nearest_train_km",
    "spatial_holdout",
    "suggest_block_km",
]
