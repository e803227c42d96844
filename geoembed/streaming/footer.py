"""The footer of a Parquet file: what it says about row groups, moved or put together anew.

A Parquet file says only in its last bytes where everything is, so a file that is torn off
cannot be read, and pyarrow cannot append to one. Row groups themselves are independent of their
place but for the offsets in the footer. Here those are read, shifted and written again (Thrift,
compact protocol), so that a file grows by one row group at a time and is never copied.

Formats: https://github.com/apache/parquet-format (parquet.thrift) and
https://github.com/apache/thrift (doc/specs/thrift-compact-protocol.md).
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Final

__all__ = ["MAGIC", "RawStructs", "compose", "decode_struct", "encode_struct", "row_groups"]

MAGIC: Final = b"PAR1"

# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)

# Field numbers of parquet.thrift.
_NUM_ROWS, _ROW_GROUPS = 3, 4  # FileMetaData
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7  # RowGroup
_CHUNK_OFFSETS, _COLUMN_META = (2, 4, 6), 3  # ColumnChunk
_PAGE_OFFSETS = (9, 10, 11, 14)  # ColumnMetaData: data, index, dictionary, bloom filter

# A struct: field number -> (type, value), in the order of the file. A list: (type, values).
Struct = dict[int, tuple[int, Any]]


@dataclass(frozen=True)
class RawStructs:
    """A list of structs that are encoded already; stands for the value of a list field."""

    count: int
    data: bytes


def row_groups(footer: bytes, shift: int) -> list[bytes]:
    """Take the row groups out of a footer, for a file that holds them `shift` bytes later.

    Parameters
    ----------
    footer : bytes
        The Thrift struct ``FileMetaData``, without length and magic.
    shift : int
        Bytes that stand before the file the footer was written for.

    Returns
    -------
    list of bytes
        Encoded ``RowGroup`` structs.
    """
    _, groups = decode_struct(BytesIO(footer))[_ROW_GROUPS][1]
    for group in groups:
        # Numbers only matter to encryption, and would have to be counted on.
        group.pop(_ORDINAL, None)
        _shift(group, (_GROUP_OFFSET,), shift)
        for chunk in group[_COLUMNS][1][1]:
            _shift(chunk, _CHUNK_OFFSETS, shift)
            _shift(chunk[_COLUMN_META][1], _PAGE_OFFSETS, shift)
    return [encode_struct(group) for group in groups]


def compose(template: bytes, groups: RawStructs, rows: int) -> bytes:
    """Write the end of a Parquet file: footer, its length, magic.

    Parameters
    ----------
    template : bytes
        Footer of a file of the same schema; everything else is taken from it.
    groups : RawStructs
        All row groups, from `row_groups`.
    rows : int
        Rows in all of them.

    Returns
    -------
    bytes
        What follows the last row group.
    """
    fields = decode_struct(BytesIO(template))
    fields[_NUM_ROWS] = (_I64, rows)
    fields[_ROW_GROUPS] = (_LIST, groups)
    footer = encode_struct(dict(sorted(fields.items())))
    return footer + len(footer).to_bytes(4, "little") + MAGIC


def _shift(struct: Struct, fields: tuple[int, ...], by: int) -> None:
    for field in fields:
        kind, value = struct.get(field, (0, 0))
        # 0 is what writers put where there is nothing.
        if value > 0:
            struct[field] = (kind, value + by)


# --- Thrift's compact protocol -------------------------------------------------------


def decode_struct(data: BinaryIO) -> Struct:
    """Read one struct, with everything in it."""
    fields: Struct = {}
    number = 0
    while header := data.read(1)[0]:
        step, kind = header >> 4, header & 15
        number = number + step if step else _read_zigzag(data)
        fields[number] = (kind, _read(data, kind))
    return fields


def encode_struct(fields: Struct) -> bytes:
    """Write one struct; the inverse of `decode_struct`."""
    out = bytearray()
    last = 0
    for number, (kind, value) in fields.items():
        step = number - last
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(number)
        # A boolean is its own type and takes no further byte.
        if kind not in (_TRUE, _FALSE):
            out += _encode(kind, value)
        last = number
    out.append(0)
    return bytes(out)


def _read(data: BinaryIO, kind: int) -> Any:
    if kind in (_TRUE, _FALSE):
        return None
    if kind in _INTEGERS:
        return _read_zigzag(data)
    if kind == _BINARY:
        return data.read(_read_varint(data))
    if kind in (_BYTE, _DOUBLE):
        return data.read(1 if kind == _BYTE else 8)
    if kind == _STRUCT:
        return decode_struct(data)
    if kind in (_LIST, _SET):
        header = data.read(1)[0]
        inner, count = header & 15, header >> 4
        if count == 15:
            count = _read_varint(data)
        # In a list a boolean is one byte.
        inner_kind = _BYTE if inner in (_TRUE, _FALSE) else inner
        return inner, [_read(data, inner_kind) for _ in range(count)]
    raise ValueError(f"the footer holds a value of type {kind}, which Parquet has none of")


def _encode(kind: int, value: Any) -> bytes:
    if kind in _INTEGERS:
        return _zigzag(value)
    if kind == _BINARY:
        return _varint(len(value)) + bytes(value)
    if kind in (_BYTE, _DOUBLE):
        return bytes(value)
    if kind == _STRUCT:
        return encode_struct(value)
    if isinstance(value, RawStructs):
        return _list_header(_STRUCT, value.count) + value.data
    inner, items = value
    inner_kind = _BYTE if inner in (_TRUE, _FALSE) else inner
    return _list_header(inner, len(items)) + b"".join(_encode(inner_kind, i) for i in items)


def _list_header(inner: int, count: int) -> bytes:
    if count < 15:
        return bytes([count << 4 | inner])
    return bytes([0xF0 | inner]) + _varint(count)


def _read_varint(data: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = data.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def _read_zigzag(data: BinaryIO) -> int:
    value = _read_varint(data)
    return value >> 1 ^ -(value & 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)
