"""Azure LLM inference traces of 2023 and 2024: CSV with TIMESTAMP, ContextTokens and GeneratedTokens.

The two differ in how a time is written: ``2023-11-16 18:17:03.9799600``, and in 2024 with an offset,
``2024-05-10 00:00:00.009930+00:00``. A fraction may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from workloads.traces.blocks import Block
from workloads.traces.stream import Chunk, usable
from workloads.traces.tables import read_table

TIME, INPUT, OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"


def read_azure(path: Path, *, times: bool) -> Iterator[Chunk]:
    """Yield the requests of an Azure trace; raises ``WorkloadFileError`` naming a bad row."""
    start: pd.Timestamp | None = None
    for block in read_table(path, [*[TIME] * times, INPUT, OUTPUT], "an Azure trace"):
        time_s = None
        if times:
            moments = _moments(block)
            start = moments[0] if start is None else start
            time_s = (moments - start).total_seconds().to_numpy(dtype=np.float64)
        yield usable(time_s, block.tokens(INPUT), block.tokens(OUTPUT))


def _moments(block: Block) -> pd.DatetimeIndex:
    """Return the times as written, in UTC; one without an offset is taken as UTC."""
    moments: pd.DatetimeIndex = pd.to_datetime(block.columns[TIME], errors="coerce", utc=True, format="ISO8601")
    block.refuse(TIME, np.asarray(moments.isna()), "a date and time is needed")
    return moments
