"""Evaluation of geolocation: how far from the truth, on which pictures, from which gallery."""

from geoembed.evaluation.geolocation.evaluator import evaluate_manifest
from geoembed.evaluation.geolocation.features import Features, read_features
from geoembed.evaluation.geolocation.intervals import bootstrap_intervals
from geoembed.evaluation.geolocation.leakage import Leaks, find_leaks
from geoembed.evaluation.geolocation.manifests import Manifest, read_manifest
from geoembed.evaluation.geolocation.metrics import (
    GEOSCORE_KM,
    THRESHOLDS_KM,
    continent_table,
    errors_km,
    geoscore,
    share_within,
    summarise,
)
from geoembed.evaluation.geolocation.protocols import (
    GeolocationProtocol,
    PublishedResult,
    list_geolocation_protocols,
    load_geolocation_protocol,
)
from geoembed.evaluation.geolocation.report import GeolocationReport
from geoembed.evaluation.geolocation.scoring import evaluate_geolocation

__all__ = [
    "GEOSCORE_KM",
    "THRESHOLDS_KM",
    "Features",
    "GeolocationProtocol",
    "GeolocationReport",
    "Leaks",
    "Manifest",
    "PublishedResult",
    "bootstrap_intervals",
    "continent_table",
    "errors_km",
    "evaluate_geolocation",
    "evaluate_manifest",
    "find_leaks",
    "geoscore",
    "list_geolocation_protocols",
    "load_geolocation_protocol",
    "read_features",
    "read_manifest",
    "share_within",
    "summarise",
]
