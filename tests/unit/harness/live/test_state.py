import threading

import pytest

from harness.live.state import LiveState
from harness.power.base import PowerRow
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow


def power(t_s, power_w=None, energy_j=None, uuid="gpu-0", error=None):
    return PowerRow(
        uuid, power_w=power_w, energy_j=energy_j, error=error,
        t_mono_s=t_s, t_wall_s=t_s, late_s=0.0, source="nvml", boundary="gpu",
    )  # fmt: skip


def joules(*rows):
    live = LiveState()
    for row in rows:
        live.power_read([row])
    return live.devices["gpu-0"].joules


@pytest.mark.parametrize(
    ("rows", "expected_j"),
    [
        ([power(0, 50, 1000)], 0),
        ([power(0, 50, 1000), power(1, 50, 1200), power(2, 50, 1250)], 250),
        ([power(0, 100), power(2, 300), power(3, 300)], 2 * 200 + 300),
        ([power(0, 100, 1000), power(1, 100, 10), power(2, 100, 60)], 50),
        ([power(0, 50, 1000), power(1, error="x"), power(2, 50, 1300)], 300),
        ([power(0, 100), power(1, error="x"), power(2, 300)], 400),
        ([power(0, 100, 1000), power(1, 100), power(2, 100, 1200)], 200),
    ],
    ids=["one reading", "counter", "integral", "counter reset", "counter over a failed reading",
         "integral over a failed reading", "counter missing once"],
)  # fmt: skip
def test_the_joules_of_a_device_come_from_its_counter_or_else_from_its_power(rows, expected_j):
    assert joules(*rows) == pytest.approx(expected_j)


def test_each_device_has_its_own_joules_and_latest_reading():
    live = LiveState()
    live.power_read([power(0, 1, 10, "a"), power(0, 2, 20, "b")])
    live.power_read([power(1, 3, 11, "a"), power(1, 4, 25, "b")])
    assert {uuid: (device.joules, device.row.power_w) for uuid, device in live.devices.items()} == {
        "a": (1, 3), "b": (5, 4),
    }  # fmt: skip


def scraped(server, running=None, generation_tok=None):
    return ServerRow(0.0, 0.0, server, ServerCounters(running=running, generation_tok=generation_tok))


def test_tokens_are_counted_from_the_first_scrape_of_each_server():
    live = LiveState()
    live.servers_scraped([scraped(0, generation_tok=500.0), scraped(1, generation_tok=7.0)])
    live.servers_scraped([scraped(0, generation_tok=650.0), scraped(1, generation_tok=7.0)])
    assert (live.grown(0, "generation_tok"), live.grown(1, "generation_tok")) == (150, 0)
    assert live.grown(0, "prompt_tok") is None


def test_running_requests_are_summed_over_servers_and_unknown_ones_left_out():
    live = LiveState()
    assert live.running_requests() == 0
    live.servers_scraped([scraped(0, running=3.0), scraped(1, running=4.0), scraped(2)])
    assert live.running_requests() == 7


def test_requests_that_end_on_many_threads_are_all_counted():
    live = LiveState()

    def end():
        for _ in range(1_000):
            live.request_ended("completed")

    threads = [threading.Thread(target=end) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert live.requests == {"completed": 4_000, "error": 0, "aborted": 0}
