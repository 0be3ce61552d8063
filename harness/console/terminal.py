"""The two consoles: progress on standard error, results on standard output."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from harness.console.snapshot import Facts
    from harness.live.state import LiveState

PLAIN_WIDTH = 120


class Progress:
    """Progress on standard error: lines with the seconds since the start, a live view for a run, or nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Start the clock; ``quiet`` says nothing."""
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._start_s = time.monotonic()
        self._quiet = quiet
        self._kept: list[str] | None = None

    def say(self, text: str) -> None:
        """Print one line; while the live view is up it is shown there and printed when the view has gone."""
        line = f"{time.monotonic() - self._start_s:6.1f} s  {text}"
        if self._kept is not None:
            self._kept.append(line)
        elif not self._quiet:
            self._console.print(line, soft_wrap=True)

    @contextmanager
    def showing(self, facts: Callable[[], Facts]) -> Iterator[Callable[[LiveState], None]]:
        """Show the run meanwhile, where standard error is a terminal that can; yields what takes its live state."""
        if self._quiet or not can_show(self._console):
            yield lambda _: None
            return
        from harness.console.live_screen import LiveScreen

        kept: list[str] = []
        self._kept = kept
        try:
            with LiveScreen(facts(), kept) as screen, redirect_stderr(_Lines(self.say)):
                yield screen.watch
        finally:
            self._kept = None
            for line in kept:
                self._console.print(line, soft_wrap=True)


def can_show(console: Console) -> bool:
    """Return whether a console can hold a view that is drawn anew in place."""
    return console.file.isatty() and console.is_interactive and console.encoding.startswith("utf")


class _Lines(io.TextIOBase):
    """A file whose lines are said, so that what others write to standard error neither spoils the view nor is lost."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say, self._begun = say, ""

    def write(self, text: str) -> int:
        """Say every line that is complete."""
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._say(line)
        return len(text)


def stdout_console() -> Console:
    """Return a console for results: as wide as the terminal, or a fixed width where output is not one."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)
