"""The signals that ask a command to end in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def ignore_ending() -> None:
    """Leave it to the parent to end this process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def is_ignored(number: signal.Signals) -> bool:
    """Return whether whoever started this process wants a signal ignored, as nohup does."""
    return signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def signals_to(handle: Callable[[int], None]) -> Iterator[None]:
    """Give the signals that ask to end to ``handle``; one that was ignored, as under nohup, stays ignored."""
    before = {number: signal.getsignal(number) for number in ENDING if not is_ignored(number)}
    for number in before:
        signal.signal(number, lambda received, _frame: handle(received))
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
