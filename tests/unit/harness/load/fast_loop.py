"""An event loop whose clock runs fast, so that minutes of waiting pass in a second of a test."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SPEED = 100.0


class _FastSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout if timeout is None else timeout / SPEED)


class _FastLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        return super().time() * SPEED


def run_fast(job: Coroutine[Any, Any, T]) -> T:
    """Run ``job`` in a loop where ``SPEED`` seconds pass in each second."""
    loop = _FastLoop()
    try:
        return loop.run_until_complete(job)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
