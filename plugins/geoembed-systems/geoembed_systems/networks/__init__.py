"""The networks of the systems that look at patch tokens."""
