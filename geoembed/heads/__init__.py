"""Heads: scikit-learn estimators that predict something at places from their embedding."""

__all__: list[str] = []
