"""An index for geoembed's galleries: approximate search by usearch."""

from collections.abc import Callable

from geoembed.extending import IndexSpec, hookimpl


@hookimpl
def register_indexes(register: Callable[[IndexSpec], None]) -> None:
    """Tell geoembed what the index is called and where its code is."""
    register(
        IndexSpec(
            name="usearch",
            factory="geoembed_usearch.index:UsearchIndex",
            summary="HNSW graph in half precision, memory-mapped; built once, then cached",
        )
    )
