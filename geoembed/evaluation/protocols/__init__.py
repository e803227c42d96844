"""Frozen set-ups of comparisons: one TOML file each, read and checked here."""

from geoembed.evaluation.protocols.learning import ProtocolLearner
from geoembed.evaluation.protocols.reading import (
    Protocol,
    list_protocols,
    load_protocol,
    read_protocol,
)
from geoembed.evaluation.protocols.splitting import protocol_plans

__all__ = [
    "Protocol",
    "ProtocolLearner",
    "list_protocols",
    "load_protocol",
    "protocol_plans",
    "read_protocol",
]
