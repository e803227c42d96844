"""Honest scores: spatial splits, and comparisons of location encoders."""

__all__: list[str] = []
