"""Recipes, settings of runs by name; files that start with ``matrix-`` describe many runs."""
