"""Galleries that are encoded once: kept in geoembed's cache under a key of all that matters."""

import hashlib
import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.devices import resolve_device
from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_rows
from geoembed.errors import MissingWeightsError, TableError, UnknownNameError, WeightsError
from geoembed.galleries.parts import restore_folder
from geoembed.galleries.places import GalleryPlaces
from geoembed.galleries.store import FORMAT, read_folder, write_folder
from geoembed.weights import cache_dir

__all__ = [
    "GalleryCacheWarning",
    "cached_vectors",
    "encoder_again",
    "find_again",
    "gallery_facts",
]


class GalleryCacheWarning(UserWarning):
    """A gallery in the cache was damaged and built again, or the cache cannot be written."""


def gallery_facts(places: GalleryPlaces, encoder: LocationEncoder, dtype: str) -> dict[str, Any]:
    """Describe a gallery: everything that decides what its vectors are, bit by bit.

    Parameters
    ----------
    places : GalleryPlaces
        What is encoded.
    encoder : LocationEncoder
        Loaded with ``normalize=True``.
    dtype : str
        In which the vectors are kept.

    Returns
    -------
    dict
        Plain types. ``encoder_path`` is there for encoders from a local file or folder only, and
        says where it lay.
    """
    recipe = encoder._bare()._recipe()
    return {
        "name": places.name,
        "source": places.source,
        "version": places.version,
        "places_sha256": places.digest,
        "encoder": encoder.name,
        **({} if recipe == encoder.name else {"encoder_path": recipe}),
        # Whose code it is: without weights nothing else tells one release's vectors from another's.
        "encoder_owner": encoder.spec.owner or f"geoembed {__version__}",
        "weights_sha256": encoder.weights_sha256,
        "layers": encoder.layers,
        "seam": encoder.seam,
        "dtype": dtype,
        "precision": encoder.precision,
        # Left out where it is torch, as in the galleries of before.
        **({"backend": "onnx"} if encoder.options().get("backend") == "onnx" else {}),
        "device": resolve_device(encoder.device).type,
        "block_size": encoder.blocks_of(),
    }


def cached_vectors(
    places: GalleryPlaces, encoder: LocationEncoder, dtype: str, progress: bool | None
) -> tuple[NDArray[Any], Path | None]:
    """Return the vectors of places from the cache, or encode them and keep them there.

    Parameters
    ----------
    places : GalleryPlaces
        What is encoded.
    encoder : LocationEncoder
        Loaded with ``normalize=True``.
    dtype : str
        In which the vectors are kept.
    progress : bool or None
        Show a progress bar while encoding.

    Returns
    -------
    embeddings : array of shape (n, d)
        Memory-mapped where they lie in the cache.
    folder : Path or None
        Where that is.

    Warns
    -----
    GalleryCacheWarning
        If what is in the cache is damaged (it is built again), or the cache cannot be written or
        is full (the vectors are then kept in memory only).

    Raises
    ------
    TableError
        If the cache cannot be written or is full, and the vectors do not fit into memory either.
        What is encoded so far is kept, and the same call goes on from there.
    """
    facts = gallery_facts(places, encoder, dtype)
    # The digest says which weights they are, wherever they lie.
    matter = {fact: value for fact, value in facts.items() if fact != "encoder_path"}
    key = hashlib.sha256(json.dumps([FORMAT, matter], sort_keys=True).encode()).hexdigest()
    folder = cache_dir() / "galleries" / f"{places.name}-{key[:16]}"
    shape = (len(places), encoder.dimension)

    def encode(out: Any) -> None:
        encode_rows(encoder, places.lonlat, out, start=getattr(out, "done", 0), progress=progress)

    try:
        damaged = False
        restore_folder(folder)
        if folder.exists():
            try:
                return _read(folder, matter), folder
            except TableError as error:
                damaged = True
                warnings.warn(f"{error} It is built again.", GalleryCacheWarning, stacklevel=4)
        write_folder(folder, facts, places, shape, dtype, encode, replace=damaged, resume=True)
        return _read(folder, matter), folder
    except (OSError, TableError) as error:
        _check_memory(places.name, shape, dtype, folder, error)
        reason = getattr(error, "strerror", None) or error
        warnings.warn(
            f"The gallery {places.name!r} cannot be kept in {folder.parent} ({reason}): its "
            "vectors are in memory only and will be encoded again next time. Mend the folder, or "
            "set GEOEMBED_CACHE to another one.",
            GalleryCacheWarning,
            stacklevel=4,
        )
    vectors = np.empty(shape, dtype=dtype)
    encode(vectors)
    return vectors, None


def _check_memory(
    name: str, shape: tuple[int, int], dtype: str, folder: Path, error: Exception
) -> None:
    """Raise TableError if vectors that cannot be kept in the cache do not fit into memory."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    free = _free_memory()
    if free is None or size < free:
        return
    reason = getattr(error, "strerror", None) or error
    raise TableError(
        " ".join(
            [
                f"The gallery {name!r} cannot be kept in {folder.parent} ({reason}), and its "
                f"{size / 1e9:,.1f} GB of vectors do not fit into the {free / 1e9:,.1f} GB of "
                "memory that are free. Make room there, or set GEOEMBED_CACHE to another folder.",
                *getattr(error, "__notes__", ()),
            ]
        )
    ) from error


def _free_memory() -> int | None:
    """Bytes that the system could still give, where it says so (Linux)."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(line.split()[1])
    return None


def find_again(
    places: GalleryPlaces, facts: dict[str, Any], folder: Path | None, device: str
) -> tuple[NDArray[Any], Path | None]:
    """Return the vectors of an unpickled gallery: from its folder, else encoded again.

    Parameters
    ----------
    places : GalleryPlaces
        Its places.
    facts : dict
        How they were encoded, see `gallery_facts`.
    folder : Path or None
        Where they lay when it was pickled, perhaps on another machine.
    device : str
        What encodes them if they have to be.

    Returns
    -------
    embeddings : array of shape (n, d)
        Memory-mapped where they lie in a folder.
    folder : Path or None
        Where that is.

    Raises
    ------
    WeightsError
        If its encoder is not here, or has other weights.
    """
    # Machines differ in device and block size; what is computed there is the same but for rounding.
    same = ("places_sha256", "encoder", "weights_sha256", "layers", "seam", "dtype")
    how = ("precision", "backend")
    if folder is not None and folder.is_dir():
        try:
            return _read(folder, {fact: facts.get(fact) for fact in (*same, *how)}), folder
        except TableError:
            pass  # the folder holds another gallery by now
    return cached_vectors(places, encoder_again(facts, device), facts["dtype"], None)


def encoder_again(facts: dict[str, Any], device: str) -> LocationEncoder:
    """Load the encoder of a gallery, with the options it was encoded with.

    Parameters
    ----------
    facts : dict
        Of the gallery, see `gallery_facts`.
    device : str
        What it computes on.

    Returns
    -------
    LocationEncoder
        Its vectors are of length 1.

    Raises
    ------
    WeightsError
        If it is not here, or has other weights.
    """
    path, name = facts.get("encoder_path", ""), facts["encoder"]
    options = {option: facts[option] for option in ("layers", "precision", "seam")}
    options |= {"backend": facts["backend"]} if "backend" in facts else {}
    gallery = f"The gallery {facts['name']!r} was encoded with"
    try:
        encoder = load_encoder(
            Path(path) if path else name, normalize=True, device=device, **options
        )
    except (UnknownNameError, WeightsError) as error:
        if isinstance(error, MissingWeightsError):
            raise
        where = f"from {path}, which is not here" if path else "which is not here"
        raise WeightsError(
            f"{gallery} {name!r} {where}. {error} Put it there again, or build the gallery with "
            "another encoder."
        ) from error
    if encoder.weights_sha256 != facts["weights_sha256"]:
        raise WeightsError(
            f"{gallery} other weights than {path or repr(name)} has here: their digest is "
            f"{encoder.weights_sha256[:12]}..., expected {facts['weights_sha256'][:12]}... Build "
            "the gallery again, or put the model back."
        )
    return encoder


def _read(folder: Path, facts: dict[str, Any]) -> NDArray[Any]:
    """Open what is in the cache, if it is what its name says."""
    stored, arrays = read_folder(folder)
    stale = sorted(fact for fact, value in facts.items() if stored.get(fact) != value)
    if stale:
        raise TableError(f"The gallery {folder} is another one: {', '.join(stale)} differ.")
    return arrays["embeddings"]
