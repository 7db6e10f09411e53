"""Tables as CSV, JSON or Parquet; the unit of a column is part of its name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import encode_json, explained, write_whole


def require_table(path: Path) -> None:
    """Check that a table can be written to a file of this name, before the work is done.

    Raises
    ------
    FossilError
        Where it ends otherwise than in .csv, .json or .parquet, or Parquet is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json", ".parquet"):
        raise FossilError(
            f"The table {path} cannot be written",
            expected="a name that ends in .csv, .json or .parquet",
            found=repr(path.suffix),
        )
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise FossilError(
            f"The table {path} cannot be written: pyarrow is not installed",
            expected="pyarrow, for Parquet",
            advice="Install it with pip install 'napari-fossiledit[parquet]', or write .csv.",
        )


def write_table(
    rows: Sequence[Mapping[str, Any]], path: Path, columns: Mapping[str, type] | None = None
) -> None:
    """Write rows to a file, the whole file or nothing, see `encode_table`."""
    write_whole(path, encode_table(rows, path, columns))


def encode_table(
    rows: Sequence[Mapping[str, Any]], path: Path, columns: Mapping[str, type] | None = None
) -> bytes:
    """Return rows as the content of a ``.csv``, ``.json`` or ``.parquet`` file.

    Parameters
    ----------
    rows
        Values by column, the same columns in each.
    path
        Name of the file.
    columns
        Columns of a table that may have no row, and the type of their values (str, int or float);
        None: those of the first row.

    Raises
    ------
    FossilError
        Where the name ends otherwise.
    """
    require_table(path)
    if path.suffix.lower() == ".json":
        return encode_json([dict(row) for row in rows])
    if path.suffix.lower() == ".parquet":
        return _parquet(rows, columns)
    # Floats are written as Python does, so that no digit is lost.
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns or (rows[0] if rows else ())), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _plain(v) for k, v in row.items()} for row in rows)
    return text.getvalue().encode()


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type] | None) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    known = columns and pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=known)
    # Tables of several reefs fit together only where a column without a value has a type as well.
    fields = [f.with_type(types[float]) if f.type == pyarrow.null() else f for f in table.schema]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table.cast(pyarrow.schema(fields)), sink)
    return bytes(sink.getvalue().to_pybytes())


def read_column(path: Path) -> list[float]:
    """Read the last column of a CSV file as numbers; a first line without one is its heading.

    Raises
    ------
    FossilError
        Where the file cannot be read or a line has no number.
    """
    with explained(path, "Reading"):
        data = path.read_bytes()
    values: list[float] = []
    rows = csv.reader(io.StringIO(data.decode("utf-8-sig", errors="replace")))
    for n, row in enumerate(filter(None, rows)):
        try:
            values.append(float(row[-1]))
        except ValueError as error:
            if n:
                raise FossilError(
                    f"{path} cannot be read", expected=f"a number in line {n + 1}", found=row[-1]
                ) from error
    return values


def _plain(value: Any) -> Any:
    """Return a text that a spreadsheet does not take for a formula; numbers stay as they are."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
