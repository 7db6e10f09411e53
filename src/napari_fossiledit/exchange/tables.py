"""Tables as CSV, JSON or Parquet; the unit of a column is part of its name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, write_json, write_whole


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
    rows: Sequence[Mapping[str, Any]], path: Path, columns: Sequence[str] | None = None
) -> None:
    """Write rows to a ``.csv``, ``.json`` or ``.parquet`` file, the whole file or nothing.

    Parameters
    ----------
    rows
        Values by column, the same columns in each.
    columns
        Names for the head of a CSV that may have no row; None: those of the first.

    Raises
    ------
    FossilError
        Where the name ends otherwise or the file cannot be written.
    """
    require_table(path)
    if path.suffix.lower() == ".json":
        write_json(path, [dict(row) for row in rows])
    elif path.suffix.lower() == ".parquet":
        import pyarrow
        from pyarrow import parquet

        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), sink)
        write_whole(path, sink.getvalue().to_pybytes())
    else:
        # Floats are written as Python does, so that no digit is lost.
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns or list(rows[0] if rows else []), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _plain(v) for k, v in row.items()} for row in rows)
        write_whole(path, text.getvalue().encode())


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
