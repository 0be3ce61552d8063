"""The signals that ask a command to end in order."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def ignore_ending() -> None:
    """Leave it to the parent to end this process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def is_ignored(number: signal.Signals) -> bool:
    """Return whether whoever started this process wants a signal ignored, as nohup does."""
    return signal.getsignal(number) is signal.SIG_IGN
