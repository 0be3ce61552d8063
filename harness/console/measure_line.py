"""The line that ``harness measure`` shows meanwhile: seconds, joules and mean watts so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.console.drawing import number
from harness.console.terminal import can_show
from harness.live.spent import spent
from harness.live.state import LiveState

FRAMES_PER_S = 2
LINE_EVERY_S = 10.0
Watch = Callable[[LiveState], AbstractContextManager[None]]


def watch(*, quiet: bool, alone: bool) -> Watch:
    """Return what shows a stretch on standard error while it lasts.

    It is one line, drawn anew in place, where that is a terminal and the harness is ``alone`` on it; else, so that it
    does not get into the lines of a command, a line every ten seconds. ``quiet`` shows nothing.
    """
    if quiet:
        return lambda _: nullcontext()
    console = Console(stderr=True, highlight=False, markup=False)
    return lambda live: _in_place(console, live) if alone and can_show(console) else _now_and_then(console, live)


def measure_line(live: LiveState, now_s: float) -> str:
    """Return the line as of ``now_s`` on the monotonic clock."""
    parts = [
        f"{number(each.joules, ',.1f')} J, mean {number(each.mean_w, ',.1f')} W ({each.source}, {each.boundary})"
        for each in spent(live)
    ]
    return f"{now_s - live.began_s:6.1f} s  {'; '.join(parts) or 'no reading yet'}"


@contextmanager
def _in_place(console: Console, live: LiveState) -> Iterator[None]:
    def frame() -> Text:
        return Text(measure_line(live, time.monotonic()), no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=frame, console=console, refresh_per_second=FRAMES_PER_S, transient=True):
        yield


@contextmanager
def _now_and_then(console: Console, live: LiveState) -> Iterator[None]:
    over = threading.Event()

    def say() -> None:
        while not over.wait(LINE_EVERY_S):
            console.print(measure_line(live, time.monotonic()), soft_wrap=True)

    thread = threading.Thread(target=say, name="measure-line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
