"""What the systems see of pictures: features, patch tokens, segments, scenes."""
