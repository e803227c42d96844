"""From photographs and texts to places: retrieval, refinement, uncertainty."""
