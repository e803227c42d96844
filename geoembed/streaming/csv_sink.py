"""Write CSV: cells of the source as they are, one column a value of the embedding."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geoembed.streaming.sinks import GrowingFile, Result, Vectors

__all__ = ["CsvSink"]

# Values turned into text at a time: about 100 MB at work.
_VALUES: Final = 1 << 21
_NEEDS_QUOTES: Final = r'[",\r\n]'


class CsvSink(GrowingFile):
    """A CSV file in UTF-8; numbers in the shortest form that reads back as the same number."""

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, result, state)
        if state is None:
            names = pa.array([*result.schema.names, *result.names], pa.large_string())
            self.file.write(",".join(_quoted(names).to_pylist()).encode() + b"\n")

    def _append(self, table: pa.Table, vectors: Vectors) -> None:
        # A table may have no vectors beside it, as predictions have none.
        step = max(1, _VALUES // max(1, self.result.dimension))
        for start in range(0, len(vectors), step):
            part = table.slice(start, step).combine_chunks()
            cells = [_quoted(_texts(column.combine_chunks())) for column in part.columns]
            if self.result.dimension:
                cells.append(_joined(vectors[start : start + step]))
            lines = pc.binary_join_element_wise(*cells, _text(",")) if len(cells) > 1 else cells[0]
            self.file.write(_join(lines, "\n").as_buffer())
            self.file.write(b"\n")

    def finish(self, metadata: Mapping[bytes, bytes], done: Callable[[int], object]) -> None:
        """Do nothing: a CSV file has no end and no room for metadata."""


def _joined(vectors: Vectors) -> pa.Array:
    """One text a row: its values with commas between."""
    rows, dimension = vectors.shape
    # Half floats have no text of their own; as single floats they keep their value.
    values = vectors.astype(np.float32) if vectors.dtype == np.float16 else vectors
    texts = _number_texts(pa.array(values.ravel()))
    offsets = pa.array(np.arange(0, (rows + 1) * dimension, dimension, dtype=np.int64))
    return pc.binary_join(pa.LargeListArray.from_arrays(offsets, texts), _text(","))


def _join(lines: pa.Array, separator: str) -> pa.Scalar:
    offsets = pa.array([0, len(lines)], pa.int64())
    return pc.binary_join(pa.LargeListArray.from_arrays(offsets, lines), _text(separator))[0]


def _number_texts(values: pa.Array) -> pa.Array:
    """Numbers as text; NaN as an empty cell, which readers take for missing."""
    texts = pc.cast(values, pa.large_string())
    nan = pc.is_nan(values)
    return pc.if_else(nan, _text(""), texts) if pc.any(nan).as_py() else texts


def _texts(column: pa.Array) -> pa.Array:
    """Cells as text; missing ones empty."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind):
        texts = _number_texts(column)
    elif pa.types.is_nested(kind):
        cells = column.to_pylist()
        texts = pa.array([None if c is None else json.dumps(c, default=str) for c in cells])
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        texts = pa.array([None if c is None else c.hex() for c in column.to_pylist()])
    else:
        texts = column
    return pc.fill_null(texts.cast(pa.large_string()), "")


def _quoted(texts: pa.Array) -> pa.Array:
    needy = pc.match_substring_regex(texts, _NEEDS_QUOTES)
    if not pc.any(needy).as_py():
        return texts
    doubled = pc.replace_substring(texts, '"', '""')
    quoted = pc.binary_join_element_wise(_text('"'), doubled, _text('"'), _text(""))
    return pc.if_else(needy, quoted, texts)


def _text(text: str) -> pa.Scalar:
    # All texts here are large strings: lines of a batch may pass 2 GB together.
    return pa.scalar(text, pa.large_string())
