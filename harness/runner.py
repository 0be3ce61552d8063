"""Run the asynchronous job so that Ctrl-C, SIGTERM or a lost terminal end it in order instead of tearing it down."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import uvloop

from harness.signals import ENDING, is_ignored

T = TypeVar("T")


def run_interruptible(job: Coroutine[Any, Any, T]) -> T:
    """Run ``job`` to its end; the first signal to end cancels it, further ones do not disturb its clean-up."""
    loop = uvloop.new_event_loop()
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    try:
        task = loop.create_task(job)
        cancelled = False

        def cancel_once(number: signal.Signals) -> None:
            nonlocal cancelled
            if number == signal.SIGHUP:
                _say_no_more(terminals)
            if not cancelled:
                cancelled = True
                task.cancel()

        for number in ENDING:
            if number != signal.SIGHUP or not is_ignored(number):
                loop.add_signal_handler(number, cancel_once, number)
        return loop.run_until_complete(task)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _say_no_more(streams: Iterable[int]) -> None:
    """Send what is still written to a terminal that is gone to nowhere: the clean-up must not fail for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
