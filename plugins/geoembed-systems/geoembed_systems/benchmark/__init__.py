"""One benchmark for all systems."""
