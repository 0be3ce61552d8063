import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from harness import cell, stalls
from harness.errors import ServerError
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from harness.stalls import StallWatch


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


class Filling:
    """A load whose servers give the new slots their first tokens one look at a time."""

    concurrency = 2

    def __init__(self) -> None:
        self.first_tokens = 100.0

    async def ready(self) -> None:
        pass

    def grow_to(self, concurrency: int) -> None:
        self.grown_to = concurrency

    def check(self) -> None:
        self.first_tokens += 1


def fill(load: Filling, concurrency: int, fill_s: float = 0.0) -> bool:
    instruments = SimpleNamespace(
        live=SimpleNamespace(), check=lambda: None, blind=False, monitor=SimpleNamespace(latest=())
    )
    bench: Any = SimpleNamespace(
        instruments=instruments, check_servers=lambda: None, first_tokens=lambda: load.first_tokens, fill_s=fill_s
    )
    return asyncio.run(cell.fill(bench, load, concurrency, StallWatch(), timeout_s=1.2))  # type: ignore[arg-type]


@pytest.mark.parametrize(("concurrency", "fill_s", "complete"), [(4, 0.0, True), (8, 0.0, False), (6, 10.0, True)])
def test_a_load_is_full_when_every_new_slot_has_its_first_token(concurrency, fill_s, complete) -> None:
    load = Filling()
    assert fill(load, concurrency, fill_s) is complete
    assert load.grown_to == concurrency
    assert (load.first_tokens - 100 >= concurrency - 2) is complete


def test_a_server_that_stalls_ends_the_cell_with_its_number(monkeypatch) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.0)
    monkeypatch.setattr(cell, "_LOOK_S", 0.01)
    rows = [ServerRow(0.0, 0.0, number, ServerCounters(running=8.0, generation_tok=7.0)) for number in range(2)]
    instruments = SimpleNamespace(check=lambda: None, blind=False, monitor=SimpleNamespace(latest=rows))
    bench: Any = SimpleNamespace(instruments=instruments, check_servers=lambda: None)
    load: Any = SimpleNamespace(check=lambda: None)
    with pytest.raises(ServerError, match="servers 0, 1 generated no token"):
        asyncio.run(cell.hold(bench, load, 10.0, StallWatch()))
    instruments.blind = True
    asyncio.run(cell.hold(bench, load, 0.05, StallWatch()))
