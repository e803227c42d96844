"""The training pipeline: from geotagged pictures to encoders of places and pictures."""
