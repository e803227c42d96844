"""Read CSV files as streams of Arrow tables, without changing what their cells say."""

import csv
import gzip
from collections.abc import Iterator
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

# A number that would change when it is written again is text: a postcode with a leading zero, a
# telephone number with a plus sign, an identifier of more digits than an int64 holds.
_INTEGER: Final = r"^-?(0|[1-9][0-9]{0,17})$"
_DECIMAL: Final = (
    r"^-?((0|[1-9][0-9]*)\.[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?"
    r"|(0|[1-9][0-9]*)[eE][+-]?[0-9]+|(0|[1-9][0-9]{0,17}))$"
)
_TRUTH: Final = r"^(true|false|True|False|TRUE|FALSE)$"
# Tried in this order; the first that fits every cell of a column is its type.
_KINDS: Final = ((pa.int64(), _INTEGER), (pa.float64(), _DECIMAL), (pa.bool_(), _TRUTH))


class CsvSource(Source):
    """A CSV file in UTF-8, its first line the names of the columns.

    Parameters
    ----------
    path : Path
        Of the file, which may be compressed with gzip. Comma, tab, semicolon or bar separate
        the cells, whichever is most frequent in the first line.
    typed : bool
        Read the whole file once to find the columns that hold only whole numbers, numbers or
        truth values, and give them that type. Else every cell is text, as it is spelled.
    """

    def __init__(self, path: Path, *, typed: bool) -> None:
        self.path = path
        self.geometries = []
        names, self._delimiter = self._read_header()
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])
        if typed:
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
                delimiter = max(_DELIMITERS, key=line.count)
                file.seek(0)
                names = next(csv.reader(file, delimiter=delimiter), [])
        except (UnicodeDecodeError, OSError, EOFError, csv.Error) as error:
            raise self._unreadable(error) from error
        if not any(names):
            raise TableError(f"{self.path} has no header: its first line must name the columns.")
        check_names(self.path, names)
        return names, delimiter

    def _texts(self, names: list[str]) -> Iterator[pa.Table]:
        parse = pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True)
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            strings_can_be_null=False,
        )
        try:
            with (
                pa.input_stream(str(self.path)) as stream,
                pa_csv.open_csv(stream, parse_options=parse, convert_options=convert) as reader,
            ):
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _find_types(self) -> pa.Schema:
        """Read all cells once; count the rows on the way."""
        names = self.schema.names
        possible = {name: list(_KINDS) for name in names}
        # A column without any value stays text.
        filled = dict.fromkeys(names, False)
        self.rows = 0
        for table in self._texts(names):
            self.rows += len(table)
            for name in names:
                cells = pc.drop_null(_without_missing(table.column(name)))
                filled[name] |= len(cells) > 0
                possible[name] = [kind for kind in possible[name] if _all_match(cells, kind[1])]
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


def _all_match(cells: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern), min_count=0).as_py())


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
