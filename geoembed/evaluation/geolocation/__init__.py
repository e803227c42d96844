"""Evaluation of geolocation: how far from the truth, on which pictures, against which gallery."""
