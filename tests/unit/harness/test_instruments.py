import asyncio

import pytest

from harness import instruments
from harness.errors import MeasurementError
from harness.instruments import Instruments
from harness.live.state import LiveState
from harness.power.simulated import SimulatedSource
from harness.server import monitor
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from results.store import RunWriter


class Server:
    """A server whose every scrape is newer than all times seen so far, as it is told to look."""

    def __init__(self, running: float, generates: float = 0.0) -> None:
        self.running, self._generates, self._tokens, self.wakes = running, generates, 100.0, 0

    @property
    def latest(self) -> tuple[ServerRow, ...]:
        self._tokens += self._generates
        counters = ServerCounters(running=self.running, waiting=0.0, generation_tok=self._tokens)
        return (ServerRow(float("inf"), 0.0, 0, counters),)

    def check(self) -> None:
        pass

    async def wake(self) -> None:
        self.wakes += 1
        self.running = 0.0


@pytest.fixture
def measuring(tmp_path):
    live = LiveState()
    return Instruments(RunWriter(tmp_path / "run"), live, SimulatedSource(live.running_requests))


@pytest.fixture
def wait_quiet(measuring, monkeypatch):
    monkeypatch.setattr(instruments, "STALE_S", 0.2)
    monkeypatch.setattr(instruments, "QUIET_TIMEOUT_S", 1.0)

    def wait(server: Server) -> None:
        measuring.monitor = server
        asyncio.run(measuring.wait_quiet(server.wake))

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


def test_a_run_whose_scraping_ended_does_not_wait_for_servers_to_become_quiet(measuring, monkeypatch):
    def broken(url, number):
        raise ZeroDivisionError(f"{number} of {url}")

    monkeypatch.setattr(monitor, "scrape", broken)
    with measuring, measuring.watching(["http://127.0.0.1:1"]), pytest.raises(ZeroDivisionError):
        asyncio.run(measuring.wait_quiet(Server(running=0.0).wake))
