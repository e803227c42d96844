"""One self-contained HTML page with a map, which works offline."""

from geoembed.webmap.page import write_map

__all__ = ["write_map"]
