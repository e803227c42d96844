"""Cells of the Earth: adaptive, nested and combined partitions."""
