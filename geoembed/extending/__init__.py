"""How plugins add to geoembed: specs, hooks, the manager and the registry."""
