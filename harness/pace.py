"""Steady rounds on monotonic deadlines, for the threads that sample."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator


class Pace:
    """Iterate once a period without drift; yields how late each round began, in seconds.

    A round that overruns loses the deadlines it ran past: they are counted in ``missed``, not made up for.
    """

    def __init__(self, period_s: float) -> None:
        """Pace rounds ``period_s`` seconds apart."""
        self.period_s = period_s
        self.missed = 0
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the iteration, at once if it is waiting for a deadline."""
        self._stop.set()

    def __iter__(self) -> Iterator[float]:
        """Yield the lateness of each round until stopped; the first round is due at once."""
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            yield max(0.0, time.monotonic() - due_s)
            due_s += self.period_s
            behind = int((time.monotonic() - due_s) // self.period_s)
            if behind > 0:
                self.missed += behind
                due_s += behind * self.period_s
