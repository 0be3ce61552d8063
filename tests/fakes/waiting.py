"""Wait for things that other threads, tasks or processes do: by polling, never longer than a deadline."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

_POLL_S = 0.01


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Return as soon as ``condition`` holds; fails the test, saying ``what`` was awaited, if it never does."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(_POLL_S)


async def until_in_loop(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Do the same while the event loop goes on."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(_POLL_S)


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let pytest run an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run
