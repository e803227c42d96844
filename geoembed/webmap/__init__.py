"""One self-contained HTML page with a map, which works offline."""
