"""Labels of one level or several: read, counted, scored, joined into sets and columns."""
