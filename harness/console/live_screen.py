"""Put the live view on the terminal: on a screen of its own, drawn anew at a calm pace from a thread of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.console.live_view import LiveView
from harness.console.snapshot import Facts, take
from harness.live.state import LiveState
from harness.server.monitor import SCRAPE_PERIOD_S

FRAMES_PER_S = 1 / SCRAPE_PERIOD_S
"""As often as the servers are scraped: nothing that matters changes faster."""
MOST_LINES = 100
"""Of the log: more than any screen has rows for."""


class LiveScreen:
    """Shows the run whose live state it was given last, until left; the terminal is then as it was."""

    def __init__(self, facts: Facts, log: Sequence[str]) -> None:
        """Prepare to show a run and the last lines of its log; nothing is drawn before ``with``."""
        self._facts, self._log = facts, log
        self._live_state: LiveState | None = None
        console = Console(file=sys.stderr, highlight=False, markup=False)
        self._live = Live(
            get_renderable=self._frame,
            console=console,
            screen=True,
            refresh_per_second=FRAMES_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveScreen:
        """Take the screen."""
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the screen back."""
        self._live.stop()

    def watch(self, live: LiveState) -> None:
        """Show this run from now on."""
        self._live_state = live

    def _frame(self) -> LiveView | Text:
        if self._live_state is None:
            return Text("starting")
        return LiveView(take(self._live_state, self._facts, self._log[-MOST_LINES:]))
