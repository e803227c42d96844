"""Comparisons: location encoders side by side, and the protocols of published ones."""

from geoembed.evaluation.cached import CachedEncoder
from geoembed.evaluation.compare import compare_encoders, run_protocol
from geoembed.evaluation.comparison import Comparison
from geoembed.evaluation.contenders import adapt_encoder
from geoembed.evaluation.protocols import list_protocols, load_protocol

__all__ = [
    "CachedEncoder",
    "Comparison",
    "adapt_encoder",
    "compare_encoders",
    "list_protocols",
    "load_protocol",
    "run_protocol",
]
