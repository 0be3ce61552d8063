"""Notice a server that holds requests but generates nothing: its engine may have died behind an API that answers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.server.monitor import ServerRow

STALL_S = 120.0
"""A server with requests in flight that generates nothing for this long is taken for dead."""


class StallWatch:
    """Follows each server's count of generated tokens, by its scrapes."""

    def __init__(self) -> None:
        """Follow servers of which nothing is known yet."""
        self._since: dict[int, tuple[float | None, float]] = {}

    def stalled(self, rows: Sequence[ServerRow], now_s: float) -> tuple[int, ...]:
        """Return the numbers of the servers whose count has not moved for ``STALL_S`` seconds of monotonic time.

        ``rows`` is the latest scrape of each. One that says that nothing runs or waits is idle, not stalled.
        """
        for row in rows:
            tokens, _ = self._since.get(row.server, (None, now_s))
            if row.server not in self._since or row.counters.generation_tok != tokens or _is_idle(row):
                self._since[row.server] = (row.counters.generation_tok, now_s)
        return tuple(server for server, (_, moved_s) in self._since.items() if now_s - moved_s > STALL_S)


def _is_idle(row: ServerRow) -> bool:
    return row.counters.running == 0 and row.counters.waiting == 0
