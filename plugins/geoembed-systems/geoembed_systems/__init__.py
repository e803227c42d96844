"""Seven image geolocalizers side by side, as a plugin of geoembed."""
