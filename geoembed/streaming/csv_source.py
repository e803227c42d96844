"""Read CSV files as streams of Arrow tables, without changing what their cells say."""

import csv
import gzip
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from geoembed.errors import TableError
from geoembed.streaming.sources import Source, check_names

__all__ = ["CsvSource"]

_DELIMITERS: Final = (",", "\t", ";", "|")
# What stands for a missing number, apart from an empty cell.
_MISSING: Final = pa.array(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])

# A number that would not come back as it is spelled is text: a postcode with a leading zero, a
# telephone number with a plus sign, an identifier of more digits than an int64 holds, a version
# 1.10, which is not 1.1, an identifier 1e5, which is not 100000.0.
_INTEGER: Final = r"^(0|-?[1-9][0-9]{0,17})$"
_DECIMAL: Final = (
    r"^((0|-?[1-9][0-9]{0,14})"
    r"|-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)"
    r"|-?[1-9](\.[0-9]*[1-9])?e[+-][0-9]{2,3})$"
)
# Up to so many characters a decimal has no more digits than a float64 keeps, 15.
_KEPT: Final = 16
# Coordinates are numbers however they are spelled.
_NUMBER: Final = (
    r"^-?((0|[1-9][0-9]*)\.[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?"
    r"|(0|[1-9][0-9]*)[eE][+-]?[0-9]+|(0|[1-9][0-9]{0,17}))$"
)
_TRUTH: Final = r"^(true|false|True|False|TRUE|FALSE)$"
# Tried in this order; the first that fits every cell of a column is its type.
_KINDS: Final = ((pa.int64(), _INTEGER), (pa.float64(), _DECIMAL), (pa.bool_(), _TRUTH))
_COORDINATES: Final = ((pa.int64(), _INTEGER), (pa.float64(), _NUMBER))

# A block must hold a whole row; the larger ones are for rows that do not fit into the first.
_BLOCKS: Final = (1 << 20, 1 << 26, 1 << 30)


class CsvSource(Source):
    """A CSV file in UTF-8, its first line the names of the columns.

    Parameters
    ----------
    path : Path
        Of the file, which may be compressed with gzip. Comma, tab, semicolon or bar separate
        the cells, whichever is most frequent in the first line outside quotes.
    typed : bool
        Read the whole file once to find the columns that hold only whole numbers, numbers or
        truth values, and give them that type. Else every cell is text, as it is spelled.

        A column is int64 if every cell is a whole number of at most 18 digits, without leading
        zeros or a plus sign. It is float64 if every cell is such a number of at most 15 digits
        (13 becomes 13.0) or a decimal that comes back digit by digit: no leading zeros, no zeros
        at the end but in ``.0``, no more digits than a float64 keeps, an exponent only where
        Python writes one (``1e-07``). Of coordinates all spellings of numbers are taken.
    """

    def __init__(self, path: Path, *, typed: bool) -> None:
        self.path = path
        self.geometries = []
        self._typed = typed
        names, self._delimiter = self._read_header()
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])

    def settle(self, lon: str | None, lat: str | None, crs: Any) -> None:
        """Decide which columns hold the places; then find out what the others hold."""
        super().settle(lon, lat, crs)
        if self._typed:
            self.schema = self._find_types()

    def select(self, columns: list[str]) -> None:
        """Give only these columns."""
        self.schema = pa.schema([self.schema.field(name) for name in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Read the rows in the order of the file."""
        for table in self._texts(self.schema.names):
            columns = [_typed(table.column(field.name), field.type) for field in self.schema]
            yield pa.table(columns, schema=self.schema)

    def coordinates(self, table: pa.Table) -> pd.DataFrame:
        """Return the coordinate columns as numbers, with text where a cell is none."""
        assert self.lonlat is not None
        return pd.DataFrame({name: _numbers(table.column(name)) for name in self.lonlat})

    def _read_header(self) -> tuple[list[str], str]:
        opener = gzip.open if self.path.suffix == ".gz" else open
        try:
            with opener(self.path, "rt", encoding="utf-8-sig", newline="") as file:
                line = file.readline()
                delimiter = max(_DELIMITERS, key=_outside_quotes(line).count)
                file.seek(0)
                names = next(csv.reader(file, delimiter=delimiter), [])
        except (UnicodeDecodeError, OSError, EOFError, csv.Error) as error:
            raise self._unreadable(error) from error
        if not any(names):
            raise TableError(f"{self.path} has no header: its first line must name the columns.")
        check_names(self.path, names)
        return names, delimiter

    def _texts(self, names: list[str]) -> Iterator[pa.Table]:
        """Read cells as text, in larger blocks from where a row turns up that needs them."""
        done = 0
        for block in _BLOCKS:
            skip = done
            try:
                for table in self._read(names, block):
                    rest = table.slice(min(skip, len(table)))
                    skip -= len(table) - len(rest)
                    if len(rest):
                        done += len(rest)
                        yield rest
                return
            except (pa.ArrowException, OSError) as error:
                if "straddling" not in str(error):
                    raise self._unreadable(error) from error
        raise TableError(
            f"{self.path} has, after {done:,} rows, a row of more than {_BLOCKS[-1] >> 20:,} MB. "
            "Most likely a quotation mark is never closed: close it."
        )

    def _read(self, names: list[str], block: int) -> Iterator[pa.Table]:
        read = pa_csv.ReadOptions(block_size=block)
        parse = pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True)
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            strings_can_be_null=False,
        )
        with (
            pa.input_stream(str(self.path)) as stream,
            pa_csv.open_csv(
                stream, read_options=read, parse_options=parse, convert_options=convert
            ) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def _find_types(self) -> pa.Schema:
        """Read all cells once; count the rows on the way."""
        names = self.schema.names
        places = self.lonlat or ()
        possible = {name: list(_COORDINATES if name in places else _KINDS) for name in names}
        # A column without any value stays text.
        filled = dict.fromkeys(names, False)
        self.rows = 0
        for table in self._texts(names):
            self.rows += len(table)
            for name in names:
                cells = pc.drop_null(_without_missing(table.column(name)))
                filled[name] |= len(cells) > 0
                possible[name] = [kind for kind in possible[name] if _fit(cells, kind[1])]
        types = [
            possible[name][0][0] if filled[name] and possible[name] else pa.string()
            for name in names
        ]
        return pa.schema(list(zip(names, types, strict=True)))

    def _unreadable(self, error: Exception) -> TableError:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            return TableError(
                f"{self.path} is not in UTF-8. Convert it first, for example with: "
                f"iconv -f latin1 -t utf-8 {self.path.name}"
            )
        return TableError(f"{self.path} cannot be read as CSV: {error}")


def _without_missing(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    missing = pc.is_in(cells, value_set=_MISSING)
    return pc.if_else(missing, pa.scalar(None, pa.string()), cells)


def _outside_quotes(line: str) -> str:
    return re.sub(r'"[^"]*("|$)', "", line)


def _fit(cells: pa.ChunkedArray, pattern: str) -> bool:
    fit = pc.all(pc.match_substring_regex(cells, pattern), min_count=0).as_py()
    if not fit or pattern is not _DECIMAL:
        return bool(fit)
    unusual = pc.or_(pc.greater(pc.utf8_length(cells), _KEPT), pc.match_substring(cells, "e"))
    return all(map(_comes_back, cells.filter(unusual).unique().to_pylist()))


def _comes_back(cell: str) -> bool:
    """Whether a float64 keeps every digit; in the same spelling, where that has an exponent."""
    again = repr(float(cell))
    return again == cell or ("e" not in cell and Decimal(again) == Decimal(cell))


def _typed(cells: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if kind == pa.string():
        return cells
    return pc.cast(_without_missing(cells), kind)


def _numbers(cells: pa.ChunkedArray) -> "pd.Series[Any]":
    """Read numbers; cells that are none stay text, for the error that quotes them."""
    if cells.type == pa.string():
        cells = _without_missing(pc.utf8_trim_whitespace(cells))
    present: pd.Series[Any] = cells.to_pandas()
    numbers = pd.to_numeric(present, errors="coerce")
    text = numbers.isna() & present.notna()
    return numbers.astype(object).where(~text, present) if text.any() else numbers
