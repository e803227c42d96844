"""Indexes for geoembed's galleries: approximate search by usearch."""

from collections.abc import Callable

from geoembed.extending import IndexSpec, hookimpl


@hookimpl
def register_indexes(register: Callable[[IndexSpec], None]) -> None:
    """Tell geoembed what the indexes are called and where their code is."""
    for name, kind, what in (
        ("usearch", "UsearchIndex", "half precision"),
        ("usearch.int8", "UsearchInt8Index", "8 bits a value"),
    ):
        register(
            IndexSpec(
                name=name,
                factory=f"geoembed_usearch.index:{kind}",
                summary=f"HNSW graph in {what}, memory-mapped; built once, then kept",
            )
        )
