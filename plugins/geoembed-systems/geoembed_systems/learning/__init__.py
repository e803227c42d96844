"""How systems learn: class heads through the core's training loop."""
