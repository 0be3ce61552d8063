"""Recorded request traces: the token lengths of real traffic."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimator.lengths import IntArray
from workloads.shapes import RecordedShape

AZURE_COLUMNS = ("ContextTokens", "GeneratedTokens")


class TraceError(ValueError):
    """A trace cannot be read as what it is said to be."""


def read_azure(path: Path) -> RecordedShape:
    """Read the lengths of an Azure LLM inference trace (CSV with ContextTokens and GeneratedTokens).

    Raises ``TraceError`` naming the file and the first offending row; no row is dropped silently.
    """
    try:
        raw = path.read_bytes()
        table = pd.read_csv(path, usecols=list(AZURE_COLUMNS))
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise TraceError(
            f"{path} is not an Azure trace with the columns {', '.join(AZURE_COLUMNS)}: {error}"
        ) from error
    if table.empty:
        raise TraceError(f"{path} has no requests")
    columns = [_token_column(path, table[name]) for name in AZURE_COLUMNS]
    return RecordedShape(columns[0], columns[1], hashlib.sha256(raw).hexdigest())


def _token_column(path: Path, column: pd.Series[Any]) -> IntArray:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() | (numbers < 1) | (numbers % 1 != 0)
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise TraceError(
            f"{path}: request {row + 1} has {column.name} = {column.iloc[row]!r}; whole numbers from 1 are needed"
        )
    return numbers.to_numpy(dtype=np.int64)
