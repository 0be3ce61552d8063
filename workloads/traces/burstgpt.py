"""BurstGPT traces: CSV with, among others, Timestamp (s), Request tokens and Response tokens.

Rows of all models and log types are read. A failed request has 0 response tokens: it is no load, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workloads.traces.seconds import timed_chunks
from workloads.traces.stream import Chunk
from workloads.traces.tables import read_table

TIME, INPUT, OUTPUT = "Timestamp", "Request tokens", "Response tokens"


def read_burstgpt(path: Path, *, times: bool) -> Iterator[Chunk]:
    """Yield the requests of a BurstGPT trace; raises ``WorkloadFileError`` naming a bad row."""
    blocks = read_table(path, [*[TIME] * times, INPUT, OUTPUT], "a BurstGPT trace")
    return timed_chunks(blocks, TIME if times else None, INPUT, OUTPUT, unit_s=1.0)
