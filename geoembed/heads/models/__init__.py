"""Models on matrices of features: they know vectors and targets, and no places."""
