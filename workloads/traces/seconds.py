"""Requests of a block whose times are plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workloads.traces.blocks import Block
from workloads.traces.stream import Chunk, usable


def timed_chunks(
    blocks: Iterable[Block], time: str | None, input_: str, output: str, *, unit_s: float
) -> Iterator[Chunk]:
    """Yield the requests of blocks; ``time`` names the column of times in units of ``unit_s``, if they are wanted."""
    start: float | None = None
    for block in blocks:
        time_s = None
        if time is not None:
            written = block.numbers(time)
            start = float(written[0]) if start is None else start
            time_s = (written - start) * unit_s
        yield usable(time_s, block.tokens(input_), block.tokens(output))
