"""Places with their embeddings, encoded once, and how they are searched."""
