"""GeoCLIP's two sides: trained, kept, and asked through the core."""
