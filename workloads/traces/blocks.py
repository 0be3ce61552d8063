"""A stretch of a trace as it stands in the file, column by column, before anything is made of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator.lengths import FloatArray, IntArray
from workloads.traces.stream import refuse_bad

LONGEST_TOK = 1_000_000_000
"""A longer request is taken for a broken file."""

Values = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that follow each other; ``before`` rows of the file stand before them.

    ``columns`` hold the values as read, ``as_numbers`` makes numbers of them: NaN of what is none.
    """

    path: Path
    before: int
    columns: Mapping[str, Values]
    as_numbers: Callable[[Values], FloatArray]

    def tokens(self, column: str) -> IntArray:
        """Return a column of token counts; raises ``WorkloadFileError`` naming the first row without one."""
        numbers = self.as_numbers(self.columns[column])
        good = (numbers >= 0) & (numbers <= LONGEST_TOK) & (numbers == np.floor(numbers))
        self.refuse(column, ~good, "a whole number of tokens, from 0, is needed")
        return numbers.astype(np.int64)

    def numbers(self, column: str) -> FloatArray:
        """Return a column of finite numbers; raises ``WorkloadFileError`` naming the first row without one."""
        numbers = self.as_numbers(self.columns[column])
        self.refuse(column, ~np.isfinite(numbers), "a number is needed")
        return numbers

    def refuse(self, column: str, bad: npt.NDArray[np.bool_], needed: str) -> None:
        """Raise ``WorkloadFileError`` naming the first bad row, its value and what is needed, if there is one."""
        refuse_bad(self.path, column, self.columns[column], bad, self.before, needed)
