"""Whether the client kept up: a steady timer in the event loop, and what its record and the requests say.

The client shares the node whose watts are measured, and a client that lags holds slots empty and sees answers late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

TICK_S = 0.02
_RESOLUTION_S = 0.002
"""Event loops keep time in milliseconds and may call a little early; that is on time."""

MAX_LAG_P99_S = 0.05
MAX_CPU_SHARE = 0.8
LITTLE_CPU_SHARE = 0.2
MAX_EMPTY_SLOT_SHARE = 0.02
MAX_SEND_LATE_P99_S = 0.05
CLIENT_BOUND = "client_bound"


@dataclass(frozen=True, slots=True)
class TickRow:
    """One deadline of a client's timer: how late the event loop came to it, and the process's CPU time by then."""

    t_mono_s: float
    client: int
    lag_s: float
    cpu_s: float


TickSink = Callable[[Sequence[TickRow]], None]


def no_ticks(_: Sequence[TickRow]) -> None:
    """Keep no record."""


class LoopTimer:
    """Calls for the event loop at fixed deadlines and notes how late it comes.

    A loop that stalls misses many deadlines; each is noted, or the stall would count as a single late tick.
    """

    def __init__(self, client: int, sink: TickSink) -> None:
        """Note the ticks of ``client`` in ``sink``; nothing runs before ``start``."""
        self._client, self._sink = client, sink
        self._handle: asyncio.TimerHandle | None = None
        self._deadline_s = 0.0

    def start(self) -> None:
        """Begin ticking, if not yet ticking."""
        if self._handle is None:
            self._deadline_s = time.monotonic() + TICK_S
            self._handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """End ticking."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        now_s, cpu_s = time.monotonic(), time.process_time()
        rows = []
        while self._deadline_s <= now_s + _RESOLUTION_S:
            lag_s = max(0.0, now_s - self._deadline_s)
            rows.append(TickRow(self._deadline_s, self._client, lag_s, cpu_s))
            self._deadline_s += TICK_S
        self._sink(rows)
        self._handle = asyncio.get_running_loop().call_later(self._deadline_s - now_s, self._tick)


@dataclass(frozen=True)
class ClientHealth:
    """How the client did over a window; of several client processes the worst. ``None``: not known or no such thing.

    ``cpu_share`` is of one core, the process's other threads included. ``refill_*`` is the time from a slot's answer
    to its next request; ``empty_slot_share`` is the share of slot time so lost. ``send_late_p99_s`` is how late
    open-loop requests left that nothing held back.
    """

    clients: int
    ticks: int
    lag_p99_s: float | None
    lag_max_s: float | None
    cpu_share: float | None
    refills: int
    refill_p50_s: float | None
    refill_p99_s: float | None
    empty_slot_share: float | None
    send_late_p99_s: float | None
    held_back: int


def client_health(ticks: pd.DataFrame, requests: pd.DataFrame, start_s: float, end_s: float) -> ClientHealth:
    """Judge the clients between two monotonic times from the run's ``client`` and ``requests`` tables. Pure."""
    inside = ticks[ticks["t_mono_s"].between(start_s, end_s)]
    by_client = [rows.sort_values("t_mono_s") for _, rows in inside.groupby("client")]
    refills_s = refill_delays_s(requests, start_s, end_s)
    slots = requests.loc[requests["slot"] >= 0, "slot"].nunique()
    due = requests[requests["scheduled_mono_s"].between(start_s, end_s)]
    prompt = due[~due["held_back"].eq(True) & due["send_mono_s"].notna()]
    return ClientHealth(
        clients=len(by_client),
        ticks=len(inside),
        lag_p99_s=max((float(np.percentile(rows["lag_s"], 99)) for rows in by_client), default=None),
        lag_max_s=float(inside["lag_s"].max()) if len(inside) else None,
        cpu_share=max((share for rows in by_client if (share := _cpu_share(rows)) is not None), default=None),
        refills=len(refills_s),
        refill_p50_s=_percentile(refills_s, 50),
        refill_p99_s=_percentile(refills_s, 99),
        empty_slot_share=float(refills_s.sum()) / (slots * (end_s - start_s)) if slots else None,
        send_late_p99_s=_percentile((prompt["send_mono_s"] - prompt["scheduled_mono_s"]).to_numpy(float), 99),
        held_back=int(due["held_back"].eq(True).sum()),
    )


def health_reasons(health: ClientHealth) -> tuple[str, ...]:
    """Return ``client_bound`` where the client, not the server, may have set the pace; else nothing. Pure."""
    return (CLIENT_BOUND,) if exceeded_limits(health) else ()


def exceeded_limits(health: ClientHealth) -> tuple[str, ...]:
    """Return in words what lies beyond its limit. Pure.

    The limits: event-loop lag p99 50 ms, 80% of a core, 2% of slot time empty, open-loop sends p99 50 ms late.
    """
    limits = (
        (health.lag_p99_s, MAX_LAG_P99_S, "its event loop comes {:.3g} s late (p99, limit {:g} s)"),
        (health.cpu_share, MAX_CPU_SHARE, "it takes {:.0%} of a core (limit {:.0%})"),
        (health.empty_slot_share, MAX_EMPTY_SLOT_SHARE, "its slots stand empty {:.1%} of the time (limit {:.0%})"),
        (health.send_late_p99_s, MAX_SEND_LATE_P99_S, "its requests leave {:.3g} s late (p99, limit {:g} s)"),
    )
    return tuple(words.format(value, limit) for value, limit, words in limits if value is not None and value > limit)


def waits_for_a_core(health: ClientHealth) -> bool:
    """Return whether the event loop comes late though its process uses less than 20% of a core. Pure.

    Most likely others hold the cores then; rare bursts of its own work could look alike.
    """
    late, share = health.lag_p99_s, health.cpu_share
    return late is not None and late > MAX_LAG_P99_S and share is not None and share < LITTLE_CPU_SHARE


def refill_delays_s(
    requests: pd.DataFrame, start_s: float, end_s: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the seconds from each completed answer in a window to the next request of its slot."""
    rows = requests[requests["slot"] >= 0].sort_values(["slot", "send_mono_s"])
    following = rows.groupby("slot")["send_mono_s"].shift(-1)
    known = (rows["outcome"] == "completed") & rows["end_mono_s"].between(start_s, end_s) & following.notna()
    delays: np.ndarray[tuple[int], np.dtype[np.float64]] = (following - rows["end_mono_s"])[known].to_numpy(float)
    return delays


def _cpu_share(rows: pd.DataFrame) -> float | None:
    woken = rows.drop_duplicates("cpu_s")
    if len(woken) < 2:
        return None
    first, last = woken.iloc[0], woken.iloc[-1]
    woke_s = (last["t_mono_s"] + last["lag_s"]) - (first["t_mono_s"] + first["lag_s"])
    return float((last["cpu_s"] - first["cpu_s"]) / woke_s)


def _percentile(values: np.ndarray[tuple[int], np.dtype[np.float64]], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None
