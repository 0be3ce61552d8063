"""Scrape the servers' /metrics on a thread of its own, at a steady pace."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from harness.pace import Pace
from harness.server.metrics import ServerCounters, parse_counters

SCRAPE_PERIOD_S = 0.5
_TIMEOUT_S = 10.0
# Servers are on this node or named by the user: a proxy in the environment must not stand between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

UNREADABLE = (OSError, HTTPException, ValueError)
"""What reading /metrics may raise: no connection, an answer cut off or not of HTTP at all, or text of another form."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One scrape: times in seconds at the moment the answer began, the server's number, what it said."""

    t_mono_s: float
    t_wall_s: float
    server: int
    counters: ServerCounters
    error: str | None = None


def read_metrics(url: str) -> str:
    """Return what a server says on /metrics; raises one of ``UNREADABLE`` where it does not."""
    with _open_metrics(url) as answer:
        text: str = answer.read().decode()
        return text


def _open_metrics(url: str) -> Any:
    return _OPENER.open(f"{url}/metrics", timeout=_TIMEOUT_S)


def scrape(url: str, server: int) -> ServerRow:
    """Scrape one server now; a failure is a row with its reason, never a row of zeros."""
    t_mono_s, t_wall_s = time.monotonic(), time.time()
    try:
        with _open_metrics(url) as answer:
            t_mono_s, t_wall_s = time.monotonic(), time.time()
            return ServerRow(t_mono_s, t_wall_s, server, parse_counters(answer.read().decode()))
    except UNREADABLE as error:
        return ServerRow(t_mono_s, t_wall_s, server, ServerCounters(), f"{type(error).__name__}: {error}")


class ServerMonitor:
    """Scrapes every server each period and hands each round of rows to ``sink``.

    What the sink raises ends the scraping, and ``check`` raises it again.
    """

    def __init__(
        self,
        urls: Sequence[str],
        sink: Callable[[Sequence[ServerRow]], None],
        period_s: float = SCRAPE_PERIOD_S,
    ) -> None:
        """Prepare to scrape ``urls``; nothing runs before ``start``."""
        self._urls, self._sink = tuple(urls), sink
        self._pace = Pace(period_s)
        self._thread = threading.Thread(target=self._run, name="server-monitor", daemon=True)
        self._error: BaseException | None = None
        self.latest: tuple[ServerRow, ...] = ()

    def start(self) -> None:
        """Begin scraping."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the scraping early, if anything did."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End scraping after the round under way."""
        self._pace.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            for _ in self._pace:
                self.latest = tuple(scrape(url, number) for number, url in enumerate(self._urls))
                self._sink(self.latest)
        except BaseException as error:  # noqa: BLE001  kept for the owner's thread, where check() raises it
            self._error = error
