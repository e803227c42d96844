"""Predictions from file to file: tables and rasters, in bounded memory."""
