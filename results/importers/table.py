"""Read a CSV table whose header names the units, and say which row and column is wrong where one is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """The columns of a kind of table. Columns that it does not know are ignored, unless they are a known quantity."""

    name: str
    columns: tuple[str, ...]
    quantities: Mapping[str, str]
    """Column by quantity without unit: any other column of that quantity has a unit this layout does not know."""
    source: str
    licence: str
    notes: tuple[str, ...] = field(default=())
    unused: tuple[str, ...] = ()
    """Columns that the layout knows and that no cell needs, though they are named like a quantity."""

    def missing(self, header: Sequence[str]) -> list[str]:
        """Return the columns that ``header`` lacks."""
        return [column for column in self.columns if column not in header]

    def wrong_units(self, header: Sequence[str]) -> dict[str, str]:
        """Return the columns of ``header`` that are a known quantity in an unknown unit, with the column expected."""
        return {
            column: expected
            for column in header
            for quantity, expected in self.quantities.items()
            if column not in (expected, *self.unused) and (column == quantity or column.startswith(f"{quantity}_"))
        }


@dataclass(frozen=True)
class Row:
    """One row of a table; ``number`` counts rows of the file, the header being row 1."""

    number: int
    values: Mapping[str, str]

    def text(self, column: str) -> str:
        """Return a text; raises ValueError if it is empty."""
        value = self.values[column].strip()
        if not value:
            raise self.error(column, "is empty")
        return value

    def positive(self, column: str) -> float:
        """Return a positive finite number; raises ValueError for anything else."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            raise self.error(column, f"{text!r} is not a number") from None
        if not math.isfinite(value) or value <= 0:
            raise self.error(column, f"{text!r} is not a positive finite number")
        return value

    def positive_or_none(self, column: str) -> float | None:
        """Return a positive finite number, or None where the table leaves it empty."""
        return self.positive(column) if self.values[column].strip() else None

    def count(self, column: str) -> int:
        """Return a positive whole number; raises ValueError for anything else."""
        value = self.positive(column)
        if value != int(value):
            raise self.error(column, f"{self.text(column)!r} is not a whole number")
        return int(value)

    def error(self, column: str, what: str) -> ValueError:
        """Return an error that names the row and the column."""
        return ValueError(f"row {self.number} (the header is row 1), column {column}: {what}")


def read_rows(text: str) -> tuple[list[str], list[Row]]:
    """Return the header and the rows of a CSV text; raises ValueError for an empty or uneven table."""
    try:
        lines = [line for line in enumerate(csv.reader(io.StringIO(text), strict=True), start=1) if line[1]]
    except csv.Error as error:
        raise ValueError(f"this is not a CSV table: {error}") from error
    if not lines:
        raise ValueError("the table is empty: not even a header")
    header = [column.strip() for column in lines[0][1]]
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise ValueError(f"the header names a column twice: {', '.join(repeated)}")
    if len(lines) == 1:
        raise ValueError("the table is empty: a header without rows")
    for number, values in lines[1:]:
        if len(values) != len(header):
            raise ValueError(f"row {number} (the header is row 1) has {len(values)} values, the header {len(header)}")
    return header, [Row(number, dict(zip(header, values, strict=True))) for number, values in lines[1:]]
