import asyncio

import pytest

from harness import instruments
from harness.errors import MeasurementError
from harness.instruments import Instruments
from harness.live.state import LiveState
from harness.power.base import DeviceSample
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from results.store import RunWriter


class Gpu:
    """A GPU that is never read: no sampler runs in these tests."""

    name, boundary, period_s = "fake", "gpu", 1.0

    def read(self) -> tuple[DeviceSample, ...]:
        return ()

    def close(self) -> None:
        pass


class Server:
    """A server whose every scrape is newer than all times seen so far, as it is told to look."""

    def __init__(self, running: float, generates: float = 0.0) -> None:
        self.running, self._generates, self._tokens, self.wakes = running, generates, 100.0, 0

    @property
    def latest(self) -> tuple[ServerRow, ...]:
        self._tokens += self._generates
        counters = ServerCounters(running=self.running, waiting=0.0, generation_tok=self._tokens)
        return (ServerRow(float("inf"), 0.0, 0, counters),)

    async def wake(self) -> None:
        self.wakes += 1
        self.running = 0.0


@pytest.fixture
def wait_quiet(tmp_path, monkeypatch):
    monkeypatch.setattr(instruments, "STALE_S", 0.2)
    monkeypatch.setattr(instruments, "QUIET_TIMEOUT_S", 1.0)

    def wait(server: Server) -> None:
        watched = Instruments(RunWriter(tmp_path / "run"), LiveState(), Gpu())  # type: ignore[arg-type]
        watched.monitor = server  # type: ignore[assignment]
        asyncio.run(watched.wait_quiet(server.wake))

    return wait


def test_a_quiet_server_is_not_woken(wait_quiet):
    server = Server(running=0.0)
    wait_quiet(server)
    assert server.wakes == 0


def test_a_server_that_tells_of_requests_of_long_ago_is_made_to_look_again(wait_quiet):
    server = Server(running=106.0)
    wait_quiet(server)
    assert server.wakes == 1


def test_a_server_that_works_for_others_is_left_alone_and_named(wait_quiet):
    server = Server(running=3.0, generates=5.0)
    with pytest.raises(MeasurementError, match="did not become quiet"):
        wait_quiet(server)
    assert server.wakes == 0
