"""Steady rounds on monotonic deadlines, for the threads that sample."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator


class Pace:
    """Iterate once a period without drift; yields how late each round began, in seconds.

    A round that overruns loses the deadlines it ran past: they are counted in ``missed``, not made up for. While it
    waits for a deadline it calls ``between``, ``BETWEEN`` times a period.
    """

    BETWEEN = 5

    def __init__(self, period_s: float, between: Callable[[], None] | None = None) -> None:
        """Pace rounds ``period_s`` seconds apart."""
        self.period_s = period_s
        self.missed = 0
        self._between = between
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the iteration, at once if it is waiting for a deadline."""
        self._stop.set()

    def __iter__(self) -> Iterator[float]:
        """Yield the lateness of each round until stopped; the first round is due at once."""
        due_s = time.monotonic()
        while not self._stopped_before(due_s):
            yield max(0.0, time.monotonic() - due_s)
            due_s += self.period_s
            behind = int((time.monotonic() - due_s) // self.period_s)
            if behind > 0:
                self.missed += behind
                due_s += behind * self.period_s

    def _stopped_before(self, due_s: float) -> bool:
        """Wait until ``due_s``; tell whether the pace was stopped instead."""
        pause_s = self.period_s / self.BETWEEN
        while self._between is not None and due_s - time.monotonic() > pause_s:
            if self._stop.wait(pause_s):
                return True
            self._between()
        return self._stop.wait(max(0.0, due_s - time.monotonic()))
