"""Photographs and texts as vectors: pictures in, towers, trained heads."""
