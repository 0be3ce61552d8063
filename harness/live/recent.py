"""Watts and traffic of the last minutes, for a node whose traffic is not ours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from harness.live.state import LiveState

RECENT_S = 300.0
Source = tuple[str, str]


class Known(NamedTuple):
    """Joules of a device since its first reading, and the seconds that they cover."""

    seconds: float
    joules: float


class Instant(NamedTuple):
    """What was known at one round of scrapes: totals of all servers together, and of each device that answered."""

    t_s: float
    generated_tok: float
    finished: float | None
    devices: dict[str, Known]


@dataclass(frozen=True)
class Rates:
    """Means over ``seconds``: output tokens and finished requests a second, watts by (source, boundary).

    A source one of whose devices does not answer is left out: the others are not the whole.
    """

    seconds: float
    tok_per_s: float
    finished_per_s: float | None
    watts: dict[Source, float]


class Recent:
    """The rounds of the last five minutes at which every server answered."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._instants: deque[Instant] = deque()
        self._now: Instant | None = None

    def note(self, live: LiveState) -> None:
        """Take what is known after a round of scrapes; nothing where a server does not answer. ``live`` is locked."""
        self._now = _instant(live)
        if self._now is not None:
            self._instants.append(self._now)
            while self._instants[0].t_s < self._now.t_s - RECENT_S:
                self._instants.popleft()

    def rates(self, live: LiveState) -> Rates | None:
        """Return the means of the last minutes, or ``None`` if they are not known. ``live`` is locked.

        They begin with the oldest round kept at which every device answered that answers now. Over a restart of a
        server its counters go on; what it made between its last scrape and the restart is not in them.
        """
        now = self._now
        if now is None:
            return None
        first = next(each for each in self._instants if now.devices.keys() <= each.devices.keys())
        if first is now:
            return None
        seconds = now.t_s - first.t_s
        told = now.finished is not None and first.finished is not None
        finished = (now.finished or 0.0) - (first.finished or 0.0)
        return Rates(
            seconds,
            (now.generated_tok - first.generated_tok) / seconds,
            finished / seconds if told else None,
            _watts(live, first.devices, now.devices),
        )


def _instant(live: LiveState) -> Instant | None:
    generated = [live.grown(number, "generation_tok") for number in live.servers]
    tokens = [tok for tok in generated if tok is not None]
    if not tokens or len(tokens) < len(generated):
        return None
    finished = [live.grown(number, "finished_requests") for number in live.servers]
    requests = [count for count in finished if count is not None]
    return Instant(
        max(row.t_mono_s for row in live.servers.values()),
        sum(tokens),
        sum(requests) if len(requests) == len(finished) else None,
        {uuid: Known(device.known_s, device.joules) for uuid, device in live.devices.items() if device.answers},
    )


def _watts(live: LiveState, first: dict[str, Known], now: dict[str, Known]) -> dict[Source, float]:
    by_source: dict[Source, list[float | None]] = {}
    for uuid, device in live.devices.items():
        watts = None
        if uuid in now and now[uuid].seconds > first[uuid].seconds:
            watts = (now[uuid].joules - first[uuid].joules) / (now[uuid].seconds - first[uuid].seconds)
        by_source.setdefault((device.row.source, device.row.boundary), []).append(watts)
    known = {source: [each for each in watts if each is not None] for source, watts in by_source.items()}
    return {source: sum(watts) for source, watts in known.items() if len(watts) == len(by_source[source])}
