"""Mooncake traces: JSON lines with timestamp (ms), input_length, output_length and hash_ids, or CSV without the hashes.

The hashes tell which requests share a prefix. They are not read: no two prompts of the harness share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workloads.traces.documents import read_line_blocks
from workloads.traces.seconds import timed_chunks
from workloads.traces.stream import Chunk, unreadable
from workloads.traces.tables import read_table

TIME, INPUT, OUTPUT = "timestamp", "input_length", "output_length"


def read_mooncake(path: Path, *, times: bool) -> Iterator[Chunk]:
    """Yield the requests of a Mooncake trace, JSON lines if its first mark is a brace, else CSV.

    Raises ``WorkloadFileError`` naming a bad row.
    """
    read = read_line_blocks if _starts_with_a_brace(path) else read_table
    blocks = read(path, [*[TIME] * times, INPUT, OUTPUT], "a Mooncake trace")
    return timed_chunks(blocks, TIME if times else None, INPUT, OUTPUT, unit_s=1e-3)


def _starts_with_a_brace(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1_024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    except OSError as error:
        raise unreadable(path, error) from error
