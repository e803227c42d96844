"""Indexes of tars, kept beside them or in geoembed's cache."""

import hashlib
import io
import json
import os
import secrets
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geoembed.errors import TableError
from geoembed.training.shard_tar import ShardIndex, read_tar
from geoembed.weights import cache_dir

__all__ = ["INDEX_SUFFIX", "ShardWarning", "index_of"]

INDEX_SUFFIX: Final = ".index"
"""An index lies beside its tar, under the tar's name with this behind it."""

_VERSION: Final = 1
_KEY: Final = b"geoembed"
# A SHA-256 of the table stands before it: nothing damaged is ever taken for an index.
_DIGEST: Final = 32


class ShardWarning(UserWarning):
    """An index of a tar that cannot be kept, or numbers of tars with a gap."""


def index_of(tar: Path) -> ShardIndex:
    """Return the index of a tar: as it was kept, or made anew.

    Parameters
    ----------
    tar : Path
        The tar.

    Returns
    -------
    ShardIndex
        Of the tar as it is now. It is kept beside the tar, or in geoembed's cache where that
        folder cannot be written, and holds for as long as the tar's size and time of change do.

    Raises
    ------
    TableError
        If there is no such tar, or it is cut off, compressed, or no tar.

    Warns
    -----
    ShardWarning
        If the index can be written nowhere, and so is made anew each time.
    """
    try:
        stamp = _stamp(tar)
    except OSError as error:
        raise TableError(f"Shard {tar} cannot be read: {error.strerror}. Bring it back.") from error
    places = (tar.with_name(tar.name + INDEX_SUFFIX), _cached(tar))
    for place in places:
        kept = _load(place, stamp)
        if kept is not None:
            return kept
    made = read_tar(tar)
    _keep(made, stamp, places)
    return made


def _stamp(tar: Path) -> list[int]:
    status = tar.stat()
    return [_VERSION, status.st_size, status.st_mtime_ns]


def _cached(tar: Path) -> Path:
    name = hashlib.sha256(os.fsencode(tar.absolute())).hexdigest()[:32]
    return cache_dir() / "shards" / (name + INDEX_SUFFIX)


def _load(place: Path, stamp: list[int]) -> ShardIndex | None:
    """Read an index that was kept; one that is torn or of another tar is none."""
    try:
        data = place.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        table = pq.read_table(pa.BufferReader(data[_DIGEST:]))
        facts = json.loads(table.schema.metadata[_KEY])
        if facts["stamp"] != stamp:
            return None
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        return ShardIndex(
            columns["offset"].to_numpy(),
            columns["size"].to_numpy(),
            np.column_stack([columns["lon"].to_numpy(), columns["lat"].to_numpy()]),
            columns["name"],
            str(facts["digest"]),
            tuple((name, reason) for name, reason in facts["bad"]),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _keep(index: ShardIndex, stamp: list[int], places: tuple[Path, ...]) -> None:
    facts = {"stamp": stamp, "digest": index.digest, "bad": index.bad}
    table = pa.table(
        {
            "offset": index.offsets,
            "size": index.sizes,
            "lon": index.lonlat[:, 0],
            "lat": index.lonlat[:, 1],
            "name": index.names,
        }
    ).replace_schema_metadata({_KEY: json.dumps(facts)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    body = sink.getvalue()
    data = hashlib.sha256(body).digest() + body
    failures = []
    for place in places:
        # Processes of other machines may be at it as well.
        draft = place.with_name(f"{place.name}.{secrets.token_hex(8)}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(place)
            return
        except OSError as error:
            failures.append(f"{place}: {error.strerror}")
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    warnings.warn(
        f"The index of a shard can be kept nowhere, and is made anew each time: {failures}.",
        ShardWarning,
        stacklevel=3,
    )
