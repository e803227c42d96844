"""Heads: scikit-learn estimators that predict something at places from their embedding."""

from typing import Any

from geoembed.extending.registry import head_spec, resolve_factory
from geoembed.heads.base import GeoembedHeadWarning, LocationHead
from geoembed.heads.duplicates import SharedPlaces, best_possible_score
from geoembed.heads.files.rasters import RasterReport, predict_raster
from geoembed.heads.files.tables import PredictReport, predict_file
from geoembed.heads.labels.sets import split_labels
from geoembed.heads.landcover import LandCoverRegressor
from geoembed.heads.location import LocationClassifier, LocationRegressor
from geoembed.heads.models.kernel import PathKernel
from geoembed.heads.models.kernel_softmax import KernelSoftmax
from geoembed.heads.models.ridge import PathRidge
from geoembed.heads.models.softmax import PathSoftmax
from geoembed.heads.regions import RegionClassifier
from geoembed.heads.saving.store import load_head

__all__ = [
    "GeoembedHeadWarning",
    "KernelSoftmax",
    "LandCoverRegressor",
    "LocationClassifier",
    "LocationHead",
    "LocationRegressor",
    "PathKernel",
    "PathRidge",
    "PathSoftmax",
    "PredictReport",
    "RasterReport",
    "RegionClassifier",
    "SharedPlaces",
    "best_possible_score",
    "load_head",
    "make_head",
    "predict_file",
    "predict_raster",
    "split_labels",
]


def make_head(name: str, **options: Any) -> Any:
    """Make an unfitted head by its registered name.

    Parameters
    ----------
    name : str
        A name from `geoembed.extending.registry.head_specs`: ``"regress"``, ``"classify"``,
        ``"landcover"``, ``"region"``, or one that a plugin registered.
    **options
        Parameters of that head.

    Returns
    -------
    LocationHead
        Not fitted.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.

    Examples
    --------
    >>> make_head("regress", model="knn")
    LocationRegressor(model='knn')
    """
    spec = head_spec(name)
    return resolve_factory(spec.factory, owner=spec.owner)(**options)
