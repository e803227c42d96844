"""What tests of plugins share with geoembed's own tests."""

from geoembed.testing.encoders import check_location_encoder
from geoembed.testing.galleries import check_gallery, check_index
from geoembed.testing.images import check_image_encoder, tiny_clip_spec, write_tiny_clip
from geoembed.testing.plugins import check_light_import, fake_distribution, isolated_plugins

__all__ = [
    "check_gallery",
    "check_image_encoder",
    "check_index",
    "check_light_import",
    "check_location_encoder",
    "fake_distribution",
    "isolated_plugins",
    "tiny_clip_spec",
    "write_tiny_clip",
]
