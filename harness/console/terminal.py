"""The two consoles: progress on standard error, results on standard output."""

from __future__ import annotations

import time

from rich.console import Console

PLAIN_WIDTH = 120


class Progress:
    """Plain progress lines on standard error, each with the seconds since the start."""

    def __init__(self) -> None:
        """Start the clock."""
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._start_s = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(f"{time.monotonic() - self._start_s:6.1f} s  {text}", soft_wrap=True)


def stdout_console() -> Console:
    """Return a console for results: as wide as the terminal, or a fixed width where output is not one."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)
