"""Judge the clients of a load while it runs, from what they told since a given moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd

from harness.load.health import ClientHealth, TickRow, client_health, refill_delays_s
from harness.load.request import RequestRow

_COLUMNS = ("slot", "outcome", "send_mono_s", "end_mono_s", "scheduled_mono_s", "held_back")
_TIMES = {"send_mono_s": float, "end_mono_s": float, "scheduled_mono_s": float}


class ClientWatch:
    """Keeps what the clients of a closed loop tell until it is begun anew."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._requests: list[RequestRow] = []
        self._ticks: list[TickRow] = []

    def begin(self) -> None:
        """Forget what was told so far."""
        self._requests, self._ticks = [], []

    def request_ended(self, row: RequestRow) -> None:
        """Take a request that ended."""
        self._requests.append(row)

    def client_ticked(self, rows: Sequence[TickRow]) -> None:
        """Take what a client's timer noted."""
        self._ticks.extend(rows)

    def health(self, start_s: float, end_s: float, slots: int) -> ClientHealth | None:
        """Return how the clients kept ``slots`` full between two monotonic times; ``None`` if no timer has told.

        Each request tells when it ends, so only refills followed by an answer are known; the others, between requests
        still running, are taken to be as long on average.
        """
        if not self._ticks:
            return None
        requests = pd.DataFrame([_fields(row) for row in self._requests], columns=list(_COLUMNS)).astype(_TIMES)
        ticks = pd.DataFrame([asdict(row) for row in self._ticks])
        health = client_health(ticks, requests, start_s, end_s)
        ended = (requests["outcome"] == "completed") & requests["end_mono_s"].between(start_s, end_s)
        known_s = refill_delays_s(requests, start_s, end_s)
        empty_s = float(known_s.mean()) * int(ended.sum()) if known_s.size else None
        return replace(health, empty_slot_share=None if empty_s is None else empty_s / (slots * (end_s - start_s)))


def _fields(row: RequestRow) -> tuple[object, ...]:
    answer = row.answer
    return row.slot, answer.outcome, row.send_mono_s, answer.end_mono_s, row.scheduled_mono_s, row.held_back
