"""Recorded request traces: the token lengths of real traffic."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from workloads.shapes import RecordedShape

AZURE_COLUMNS = ("ContextTokens", "GeneratedTokens")


class WorkloadFileError(ValueError):
    """A trace cannot be read as what it is said to be."""


def read_azure(path: Path) -> RecordedShape:
    """Read the lengths of an Azure LLM inference trace (CSV with ContextTokens and GeneratedTokens).

    Raises ``WorkloadFileError`` naming the file and the first offending row; no row is dropped silently.
    """
    try:
        raw = path.read_bytes()
        table = pd.read_csv(path, usecols=list(AZURE_COLUMNS))
    except OSError as error:
        raise WorkloadFileError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise WorkloadFileError(
            f"{path} is not an Azure trace with the columns {', '.join(AZURE_COLUMNS)}: {error}"
        ) from error
    if table.empty:
        raise WorkloadFileError(f"{path} has no requests")
    numbers = table[list(AZURE_COLUMNS)].apply(pd.to_numeric, errors="coerce")
    bad = (numbers.isna() | (numbers < 1) | (numbers % 1 != 0)).to_numpy()
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        name = AZURE_COLUMNS[column]
        raise WorkloadFileError(
            f"{path}: request {row + 1} has {name} = {table[name].iloc[row]!r}; whole numbers from 1 are needed"
        )
    input_tok, output_tok = (numbers[name].to_numpy(dtype=np.int64) for name in AZURE_COLUMNS)
    return RecordedShape(input_tok, output_tok, hashlib.sha256(raw).hexdigest())


def read_azure_times(path: Path) -> npt.NDArray[np.float64]:
    """Read when each request of an Azure trace came: seconds after the earliest, in the file's order, shape ``(n,)``.

    Raises ``WorkloadFileError`` where the column TIMESTAMP is missing or a time cannot be read.
    """
    try:
        column = pd.read_csv(path, usecols=["TIMESTAMP"])["TIMESTAMP"]
    except OSError as error:
        raise WorkloadFileError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise WorkloadFileError(f"{path} has no column TIMESTAMP, so its arrivals are not known: {error}") from error
    times = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise WorkloadFileError(f"{path}: request {row + 1} has TIMESTAMP = {column.iloc[row]!r}, which is no time")
    seconds: npt.NDArray[np.float64] = (times - times.min()).dt.total_seconds().to_numpy(dtype=np.float64)
    return seconds
