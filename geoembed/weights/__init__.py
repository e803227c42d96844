"""Where trained weights come from: looked for, checked, pulled, loaded.

Weights are looked for in an explicit path, in geoembed's cache, and in the
installed distribution that ships them, whose code is never imported; those
that ship with geoembed itself in its own package. Every
file is checked against the SHA-256 of its spec before a byte of it is
unpickled; tensors in the cache are checked by a digest of their own, which
does not depend on the file format. Nothing here touches the network unless
`pull` is called.
"""

from geoembed.weights.model_folders import (
    ModelFolder,
    digest_location,
    model_folder_of,
    read_model_folder,
)
from geoembed.weights.pulling import is_offline, pull
from geoembed.weights.store import (
    FoundWeights,
    cache_dir,
    checked_path,
    find,
    load_tensors,
    missing_weights,
)
from geoembed.weights.tensors import digest_file, digest_tensors, read_tensors

__all__ = [
    "FoundWeights",
    "ModelFolder",
    "cache_dir",
    "checked_path",
    "digest_file",
    "digest_location",
    "digest_tensors",
    "find",
    "is_offline",
    "load_tensors",
    "missing_weights",
    "model_folder_of",
    "pull",
    "read_model_folder",
    "read_tensors",
]
