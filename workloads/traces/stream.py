"""What every trace becomes while it is read: chunks of requests, and a count of the rows that are no load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator.lengths import FloatArray, IntArray

NO_OUTPUT, NO_INPUT = "no_output_tok", "no_input_tok"

_READ_B = 1 << 20


class WorkloadFileError(ValueError):
    """A file cannot be read as the workload it is said to be."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Requests that follow each other in a trace, in the order of the file; arrays of shape ``(n,)``.

    ``time_s`` counts from the file's first row and is ``None`` where times are unknown or were not asked for.
    ``unusable`` counts the rows in between that are no load, by reason; they are in no array.
    """

    time_s: FloatArray | None
    input_tok: IntArray
    output_tok: IntArray
    unusable: Mapping[str, int] = field(default_factory=dict)


def usable(
    time_s: FloatArray | None, input_tok: IntArray, output_tok: IntArray, unusable: Mapping[str, int] | None = None
) -> Chunk:
    """Return a chunk without the rows that have no tokens on one side; a row without either counts as NO_OUTPUT.

    >>> usable(None, np.array([5, 0, 7]), np.array([1, 2, 0])).unusable
    {'no_output_tok': 1, 'no_input_tok': 1}
    """
    answered = output_tok > 0
    kept = answered & (input_tok > 0)
    counts = {NO_OUTPUT: int((~answered).sum()), NO_INPUT: int((answered & ~kept).sum()), **(unusable or {})}
    times = None if time_s is None else time_s[kept]
    return Chunk(times, input_tok[kept], output_tok[kept], {name: n for name, n in counts.items() if n})


def refuse_bad(
    path: Path, column: str, values: npt.NDArray[Any], bad: npt.NDArray[np.bool_], before: int, needed: str
) -> None:
    """Raise ``WorkloadFileError`` naming the first bad row; ``before`` rows of the file stand before these."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise WorkloadFileError(f"{path}: request {before + row + 1} has {column} = {values[row]!r}; {needed}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size as hexadecimal digits; raises ``WorkloadFileError`` if unreadable."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_B):
                digest.update(block)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> WorkloadFileError:
    """Return the error of a trace that the system does not let us read."""
    return WorkloadFileError(f"cannot read the trace {path}: {error.strerror or error}")
