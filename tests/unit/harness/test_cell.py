import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from harness import cell


class Load:
    """Notes how it is ended."""

    def __init__(self, ends: bool | BaseException) -> None:
        self._ends, self.calls = ends, []

    async def outlast(self, timeout_s: float) -> bool:
        self.calls.append(("outlast", timeout_s))
        if isinstance(self._ends, BaseException):
            raise self._ends
        return self._ends

    async def stop(self, *, drain: bool) -> None:
        self.calls.append(("stop", drain))


def end(load: Load, *, blind: bool, drain: bool = True) -> None:
    bench: Any = SimpleNamespace(instruments=SimpleNamespace(blind=blind))
    definition: Any = SimpleNamespace(budget_s=60.0)
    asyncio.run(cell._stop(bench, load, definition, drain=drain))


@pytest.mark.parametrize(
    ("blind", "drain", "ends", "calls"),
    [
        (False, True, True, [("stop", True)]),
        (False, False, True, [("stop", False)]),
        (True, True, True, [("outlast", 60.0), ("stop", True)]),
        (True, True, False, [("outlast", 60.0), ("stop", False)]),
        (True, False, True, [("stop", False)]),
    ],
    ids=["counted", "counted, aborted", "usage", "usage, no answer in time", "usage, interrupted"],
)
def test_only_a_load_whose_tokens_are_usage_is_outlasted_before_it_ends(blind, drain, ends, calls) -> None:
    load = Load(ends)
    end(load, blind=blind, drain=drain)
    assert load.calls == calls


def test_what_interrupts_the_waiting_aborts_the_load() -> None:
    load = Load(OSError("no space left on device"))
    with pytest.raises(OSError, match="no space left"):
        end(load, blind=True)
    assert load.calls == [("outlast", 60.0), ("stop", False)]
