"""Run the asynchronous job so that Ctrl-C and SIGTERM end it in order instead of tearing it down."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_interruptible(job: Coroutine[Any, Any, T]) -> T:
    """Run ``job`` to its end; the first SIGINT or SIGTERM cancels it, further ones do not disturb its clean-up."""
    loop = uvloop.new_event_loop()
    try:
        task = loop.create_task(job)
        cancelled = False

        def cancel_once() -> None:
            nonlocal cancelled
            if not cancelled:
                cancelled = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, cancel_once)
        return loop.run_until_complete(task)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
