"""Vectors computed elsewhere, in place of pictures: read, matched to a manifest, brought over."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.evaluation.geolocation.manifests import FILE_COLUMNS, Manifest
from geoembed.evaluation.geolocation.words import counted
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.registry import image_encoder_spec
from geoembed.images.head import build_head
from geoembed.weights import load_tensors
from geoembed.weights.tensors import digest_file

__all__ = ["Features", "head_sha256", "read_features", "to_embeddings"]

Vectors = NDArray[np.float32]

# Names of the array or column that holds whole vectors, in this order.
_VECTORS: Final = ("embedding", "embeddings", "features", "feature", "vectors", "vector")
_NAMES: Final = (*FILE_COLUMNS, "files", "names", "ids", "images", "name")
# Numbers of a table that are no part of a vector.
_PLACES: Final = ("lon", "lat", "longitude", "latitude", "lng", "long")
_PARQUET: Final = (".parquet", ".geoparquet", ".pq")
# Rows of the head at a time.
_BLOCK: Final = 4096
# CLIP's features are about ten long; all of them 1 means that somebody has normalised them.
_UNIT: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of pictures, in the order of a manifest.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d) or (n, views, d)
        Zeros where there is none.
    errors : list of str
        Why a picture has no vector; empty where it has one.
    name : str
        What they were read from.
    sha256 : str
        Digest of that file; empty for arrays.
    notes : tuple of str
        What the reader should know.
    """

    vectors: Vectors
    errors: list[str]
    name: str = "an array"
    sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def views(self) -> int:
        """How many vectors a picture has."""
        return self.vectors.shape[1] if self.vectors.ndim == 3 else 1


def read_features(
    source: "str | PathLike[str] | NDArray[Any] | pd.DataFrame | Features",
    manifest: Manifest,
    *,
    id_column: str | None = None,
) -> Features:
    """Read vectors that were computed elsewhere, and bring them into the order of a manifest.

    Parameters
    ----------
    source : str, path, array or DataFrame
        An array of shape (n, d), or (n, views, d) where every view has its vector, one row a row
        of the manifest; a ``.npy`` file with such an array; a ``.npz`` file with such an array
        and, if rows are in another order, one with the names of the pictures; a table or Parquet
        file with a column of names and one column of vectors, or a column a value.
    manifest : Manifest
        Whose pictures they are of.
    id_column : str, optional
        Name of the column, or of the array in a ``.npz`` file, with the pictures' names as they
        stand in the manifest; found by the usual names if not given.

    Returns
    -------
    Features
        In the order of the manifest; pictures without a vector have an error.

    Raises
    ------
    TableError
        If the file cannot be read, there are no vectors in it, a name stands there twice, no
        name is in the manifest, or rows without names are not as many as the manifest has.
    UnknownNameError
        If there is no `id_column`.

    Examples
    --------
    >>> table = pd.DataFrame({"IMG_FILE": ["a", "b"], "LAT": [0, 1], "LON": [0, 1]})
    >>> from geoembed.evaluation.geolocation import read_manifest
    >>> vectors = pd.DataFrame({"file": ["b"], "0": [3.0], "1": [4.0]})
    >>> features = read_features(vectors, read_manifest(table))
    >>> features.vectors.tolist(), features.errors
    ([[0.0, 0.0], [3.0, 4.0]], ['it has no features', ''])
    """
    if isinstance(source, Features):
        return source
    sha256 = ""
    if isinstance(source, pd.DataFrame):
        what, (array, names) = "The table of features", _from_frame(source, id_column)
    elif isinstance(source, str | PathLike):
        path = Path(source).expanduser()
        what, (array, names) = path.name, _from_file(path, id_column)
        sha256 = digest_file(path)
    else:
        what, array, names = "features=", np.asarray(source), None
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu" or not array.shape[-1]:
        raise TableError(
            f"{what} holds {array.dtype} of shape {array.shape}: give numbers of shape (n, d), or "
            "(n, views, d)."
        )
    notes: tuple[str, ...] = ()
    if names is None:
        if len(array) != len(manifest):
            raise TableError(
                f"{what} has {len(array):,} rows and no names, and {manifest.name} has "
                f"{len(manifest):,}: give one row a picture, in order, or names to match them by."
            )
        vectors, there = array.astype(np.float32), np.ones(len(array), dtype=bool)
    else:
        vectors, there, unused = _match(array, names, manifest, what)
        if unused:
            notes = (f"not in the manifest: {counted(unused, 'row')} of {what}",)
    flat = vectors.reshape(len(vectors), -1)
    finite = np.asarray(np.isfinite(flat).all(axis=1))
    vectors[~finite] = 0.0
    errors = [
        _why(bool(there[at]), bool(finite[at]), bool(flat[at].any())) for at in range(len(flat))
    ]
    return Features(vectors, errors, what, sha256, notes)


def to_embeddings(features: Features, dimension: int, encoder: str) -> Vectors:
    """Bring features into the space of a gallery.

    Parameters
    ----------
    features : Features
        Final vectors, of `dimension` values; or features of the tower, which go through the
        trained head of the image encoder.
    dimension : int
        Length of the gallery's vectors.
    encoder : str
        Name of the image encoder.

    Returns
    -------
    ndarray of float32, shape (n, dimension)
        Where pictures have several views, the mean of the views' normalised vectors: its product
        with a unit vector is the mean of the cosines.

    Raises
    ------
    OptionError
        If their length is neither, or features of the tower have been normalised.
    """
    vectors = features.vectors
    width = vectors.shape[-1]
    if width != dimension:
        spec = image_encoder_spec(encoder)
        takes = _head_takes(spec)
        if width != takes or spec.dimension != dimension:
            also = f", or features of {takes} values, as the tower of {encoder!r} gives them"
            raise OptionError(
                f"{features.name} holds vectors of {width} values. Give final vectors of "
                f"{dimension}, as the gallery has them{also if takes else ''}."
            )
        used = vectors.reshape(-1, width)[vectors.reshape(-1, width).any(axis=1)]
        if len(used) and np.abs(np.linalg.norm(used, axis=1) - 1.0).max() < _UNIT:
            raise OptionError(
                f"All features in {features.name} have the length 1: the trained head was made "
                "for features as the tower gives them. Give them without normalising."
            )
        vectors = _apply_head(vectors, build_head(spec, width))
    if vectors.ndim == 2:
        return vectors
    norms = np.linalg.norm(vectors, axis=2, keepdims=True)
    mean: Vectors = (vectors / np.where(norms == 0.0, 1.0, norms)).mean(axis=1, dtype=np.float32)
    return mean


def _why(there: bool, finite: bool, some: bool) -> str:
    """Why a picture has no vector; empty where it has one."""
    if not there:
        return "it has no features"
    if not finite:
        return "its features are not finite"
    return "" if some else "its features are zero"


def _head_takes(spec: ImageEncoderSpec) -> int:
    """Length of the features that a trained head takes; 0 if there is none."""
    if spec.weights is None:
        return 0
    return int(load_tensors(spec.weights, "image_mlp")["0.weight"].shape[1])


def _apply_head(vectors: Vectors, head: Any) -> Vectors:
    import torch

    flat = vectors.reshape(-1, vectors.shape[-1])
    with torch.inference_mode():
        blocks = [
            head(torch.from_numpy(np.ascontiguousarray(flat[start : start + _BLOCK]))).numpy()
            for start in range(0, len(flat), _BLOCK)
        ]
    return np.concatenate(blocks).reshape(*vectors.shape[:-1], -1)


def head_sha256(features: Features, dimension: int, encoder: str) -> str | None:
    """Return the digest of the head that features go through; None where they need none.

    Parameters
    ----------
    features : Features
        What is evaluated.
    dimension : int
        Length of the gallery's vectors.
    encoder : str
        Name of the image encoder.

    Returns
    -------
    str or None
        SHA-256 of the file.
    """
    spec = image_encoder_spec(encoder) if features.vectors.shape[-1] != dimension else None
    return None if spec is None or spec.weights is None else spec.weights.file("image_mlp").sha256


def _match(
    array: NDArray[Any], names: Sequence[str], manifest: Manifest, what: str
) -> tuple[Vectors, NDArray[np.bool_], int]:
    """Vectors in the order of the manifest, which of them are there, and how many are unused."""
    index = pd.Index(names)
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise TableError(f"{what} has features of {twice!r} more than once: keep one row.")
    at = index.get_indexer(pd.Index(manifest.files))
    there = at >= 0
    if not there.any():
        raise TableError(
            f"No name of {what} (such as {names[0]!r}) is in {manifest.name} (such as "
            f"{manifest.files[0]!r}): names must be spelled as there."
        )
    vectors = np.zeros((len(manifest), *array.shape[1:]), dtype=np.float32)
    vectors[there] = array[at[there]]
    return vectors, there, len(index) - len(np.unique(at[there]))


def _from_file(path: Path, id_column: str | None) -> tuple[NDArray[Any], list[str] | None]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _from_arrays({name: arrays[name] for name in arrays}, path, id_column)
        if suffix in _PARQUET:
            return _from_frame(pq.read_table(path).to_pandas(ignore_metadata=True), id_column)
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"The features {path} cannot be read: {error}.") from error
    raise TableError(f"The features {path} are neither .npy, .npz nor .parquet.")


def _from_arrays(
    arrays: dict[str, NDArray[Any]], path: Path, id_column: str | None
) -> tuple[NDArray[Any], list[str] | None]:
    numbers = {k: v for k, v in arrays.items() if v.ndim in (2, 3) and v.dtype.kind in "fiu"}
    chosen = next((name for name in _VECTORS if name in numbers), None)
    if chosen is None and len(numbers) != 1:
        raise TableError(
            f"{path} has {len(numbers)} arrays of vectors among {', '.join(arrays) or 'none'}: "
            f"call the one to use {_VECTORS[2]!r}."
        )
    vectors = numbers[chosen if chosen is not None else next(iter(numbers))]
    if id_column is not None and id_column not in arrays:
        raise unknown_name("array", id_column, arrays)
    texts = {k: v for k, v in arrays.items() if v.ndim == 1 and v.dtype.kind in "US"}
    named = id_column or next((name for name in _NAMES if name in texts), None)
    if named is None and len(texts) == 1:
        named = next(iter(texts))
    if named is None:
        return vectors, None
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in arrays[named].tolist()]
    if len(names) != len(vectors):
        raise TableError(f"{path} has {len(vectors):,} vectors and {len(names):,} names.")
    return vectors, names


def _from_frame(
    frame: pd.DataFrame, id_column: str | None
) -> tuple[NDArray[Any], list[str] | None]:
    columns = {str(name): name for name in frame.columns}
    known = {name.strip().casefold(): name for name in reversed(columns)}
    if id_column is not None and id_column not in columns:
        raise unknown_name("column", id_column, columns)
    named = id_column or next((known[name] for name in _NAMES if name in known), None)
    rest = [name for name in columns if name != named]
    whole = next((name for name in _VECTORS if name in rest), None)
    if whole is not None:
        cells = [np.asarray(cell, dtype=np.float64) for cell in frame[columns[whole]]]
        if len({cell.shape for cell in cells}) != 1 or cells[0].ndim != 1:
            raise TableError(f"Column {whole!r} must hold vectors of one length, none missing.")
        vectors: NDArray[Any] = np.stack(cells)
    else:
        numbers = frame[[columns[name] for name in rest]].select_dtypes("number")
        numbers = numbers.drop(columns=[c for c in numbers if str(c).casefold() in _PLACES])
        vectors = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    if named is None:
        return vectors, None
    return vectors, [str(name).strip() for name in frame[columns[named]]]
