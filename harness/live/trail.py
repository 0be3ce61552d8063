"""The last minutes of a run: what servers, sensors and clients told, for figures of the moment."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

from harness.load.health import TickRow

TRAIL_S = 120.0
CLIENT_S = 10.0


class Moment(NamedTuple):
    """One round of scrapes, all servers together; ``None`` where a server does not tell.

    ``joules`` has (monotonic seconds, joules since the run began) of each GPU, in a fixed order; ``None`` once one
    fails.
    """

    t_s: float
    generated_tok: float | None
    running: float | None
    waiting: float | None
    kv_usage_ratio: float | None
    joules: tuple[tuple[float, float], ...] | None


class Trail:
    """The moments of the last two minutes and the client's ticks of the last seconds."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.moments: deque[Moment] = deque()
        self._ticks: deque[TickRow] = deque()

    def add(self, moment: Moment) -> None:
        """Take a round and forget what is too old."""
        self.moments.append(moment)
        while self.moments[0].t_s < moment.t_s - 2 * TRAIL_S:
            self.moments.popleft()

    def client_ticked(self, rows: Sequence[TickRow]) -> None:
        """Take ticks and forget those that are too old."""
        self._ticks.extend(rows)
        while self._ticks and self._ticks[0].t_mono_s < self._ticks[-1].t_mono_s - CLIENT_S:
            self._ticks.popleft()

    def tps(self, span_s: float) -> tuple[float, float] | None:
        """Return tokens a second over the last ``span_s`` and the seconds it is really over; ``None`` if unknown."""
        ends = self._ends(span_s)
        if ends is None or ends[0].generated_tok is None or ends[1].generated_tok is None:
            return None
        seconds, generated_tok = ends[1].t_s - ends[0].t_s, ends[1].generated_tok - ends[0].generated_tok
        return (generated_tok / seconds, seconds) if generated_tok >= 0 else None  # fewer: a server was restarted

    def gpu_watts(self, span_s: float) -> tuple[float, float] | None:
        """Return the mean power of all GPUs together over the last ``span_s`` and the seconds it is really over.

        ``None`` if one of them does not tell.
        """
        ends = self._ends(span_s)
        if ends is None or not ends[0].joules or not ends[1].joules or len(ends[0].joules) != len(ends[1].joules):
            return None
        pairs = [(b[1] - a[1], b[0] - a[0]) for a, b in zip(ends[0].joules, ends[1].joules, strict=True)]
        if any(seconds <= 0 for _, seconds in pairs):
            return None
        return sum(joules / seconds for joules, seconds in pairs), pairs[0][1]

    def rates(self, columns: int, now_s: float) -> list[float | None]:
        """Return tokens a second in ``columns`` equal parts of the last two minutes; ``None`` where nothing was told.

        The parts end at multiples of their length, so that they stand still while time goes on. Each takes the last
        scrapes before its edges, so that each token is in one part.
        """
        known = [(moment.t_s, moment.generated_tok) for moment in self.moments if moment.generated_tok is not None]
        part_s = TRAIL_S / columns
        last = int(now_s // part_s)
        places = [bisect_right(known, (part_s * (last - columns + i), inf)) - 1 for i in range(columns + 1)]
        return [
            None if a < 0 or a == b else max(0.0, (known[b][1] - known[a][1]) / (known[b][0] - known[a][0]))
            for a, b in pairwise(places)
        ]

    def client_lag_p99_s(self) -> float | None:
        """Return the 99th percentile of how late event loops came in the last seconds, of the worst client."""
        by_client = self._by_client()
        lags = [sorted(row.lag_s for row in rows) for rows in by_client.values()]
        return max((lag[min(len(lag) - 1, int(0.99 * len(lag)))] for lag in lags), default=None)

    def client_cpu_share(self) -> float | None:
        """Return the share of a core that the busiest client took in the last seconds."""
        shares = []
        for rows in self._by_client().values():
            woke_s = (rows[-1].t_mono_s + rows[-1].lag_s) - (rows[0].t_mono_s + rows[0].lag_s)
            if woke_s > 0:
                shares.append((rows[-1].cpu_s - rows[0].cpu_s) / woke_s)
        return max(shares, default=None)

    def _ends(self, span_s: float) -> tuple[Moment, Moment] | None:
        """Return the last moment and the first one at most ``span_s`` before it."""
        if len(self.moments) < 2:
            return None
        last = self.moments[-1]
        first = last
        for moment in reversed(self.moments):
            if moment.t_s < last.t_s - span_s - 0.1:
                break
            first = moment
        return None if first is last else (first, last)

    def _by_client(self) -> dict[int, list[TickRow]]:
        found: dict[int, list[TickRow]] = {}
        for row in self._ticks:
            found.setdefault(row.client, []).append(row)
        return found
