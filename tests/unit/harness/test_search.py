import asyncio
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from estimator.lengths import fixed_lengths
from harness import search as search_module
from harness.analysis.saturation import choose, what_binds
from harness.load.client import Answer
from harness.load.health import TickRow
from harness.load.request import RequestRow
from harness.load.watch import ClientWatch
from harness.search import Scrapes, max_num_seqs, search
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow


def row(t_s, tokens, *, server=0, waiting=0.0, running=8.0, kv=0.2, preemptions=0.0, error=None):
    counters = ServerCounters(running, waiting, kv, tokens, 0.0, preemptions)
    return ServerRow(t_s, 1e9 + t_s, server, counters, error)


def scrapes(*rounds):
    seen = Scrapes()
    for rows in rounds:
        seen.add(tuple(rows))
    return seen


def test_throughput_is_the_growth_of_all_servers_counters_over_the_time_between_first_and_last_scrape():
    rung = scrapes(*([row(0.5 * n, 100.0 * n), row(0.5 * n + 0.1, 5e6 + 50.0 * n, server=1)] for n in range(13))).rung(
        16
    )
    assert rung.tps_tok_per_s == pytest.approx(12 * 150 / 6)
    assert rung.tps_u_tok_per_s == pytest.approx(0, abs=1e-9)
    assert (rung.running, rung.held) == (16.0, 16.0)


def test_the_error_of_throughput_is_that_of_batches_as_long_as_a_request():
    """Two batches of 6 s with 600 and 660 tokens: their rates are 5 tok/s from the mean, over root 1 free batch."""
    grown = [70, 130] * 3 + [80, 140] * 3
    tokens = [sum(grown[:n]) for n in range(13)]
    seen = scrapes(*([row(float(n), float(total))] for n, total in enumerate(tokens)))
    rung = seen.rung(16, mean_output_tok=1260 / 2 / 16)
    assert (rung.tps_tok_per_s, rung.tps_u_tok_per_s) == (pytest.approx(105), pytest.approx(5))
    assert (rung.tps_dof, rung.seconds, rung.seconds_to_know) == (1, 12.0, pytest.approx(12.0))
    longer = seen.rung(16, mean_output_tok=1260 / 16)
    assert (longer.tps_u_tok_per_s, longer.seconds_to_know) == (None, pytest.approx(24.0))


def test_a_scrape_seen_twice_counts_once_and_a_failed_one_not_at_all():
    first, failed, last = [row(0.0, 0.0)], [row(0.5, None, error="URLError")], [row(1.0, 100.0, waiting=3.0)]
    rung = scrapes(first, first, failed, last, last).rung(16)
    assert rung.tps_tok_per_s == pytest.approx(100)
    assert rung.queue_share == 0.5
    assert rung.tps_u_tok_per_s is None


def test_cache_use_is_the_fullest_seen_and_preemptions_are_those_of_the_rung():
    rung = scrapes([row(0.0, 0.0, kv=0.3, preemptions=7.0)], [row(1.0, 9.0, kv=0.93, preemptions=9.0)]).rung(16)
    assert (rung.kv_usage_ratio, rung.preemptions) == (0.93, 2.0)


def test_what_a_server_does_not_export_stays_unknown():
    bare = ServerCounters(generation_tok=1.0)
    rung = scrapes([ServerRow(0.0, 0.0, 0, bare)], [ServerRow(1.0, 1.0, 0, bare)]).rung(4)
    assert (rung.running, rung.held, rung.kv_usage_ratio, rung.preemptions) == (None, None, None, None)


def test_one_of_two_servers_that_queues_half_the_time_is_a_queue_a_quarter_of_the_time():
    rung = scrapes(*([row(n, 100.0 * n, waiting=n % 2), row(n + 0.1, 100.0 * n, server=1)] for n in range(4))).rung(16)
    assert rung.queue_share == 0.25
    assert not rung.queued


def test_of_two_servers_the_fuller_cache_counts_and_preemptions_add_up():
    first = [row(0.0, 0.0, kv=0.2, preemptions=1.0), row(0.1, 0.0, server=1, kv=0.5, preemptions=5.0)]
    last = [row(1.0, 9.0, kv=0.3, preemptions=2.0), row(1.1, 9.0, server=1, kv=0.92, preemptions=9.0)]
    rung = scrapes(first, last).rung(16)
    assert (rung.kv_usage_ratio, rung.preemptions) == (0.92, 5.0)
    assert what_binds([rung]) == "kv_cache"


def test_two_servers_with_full_batches_and_a_queue_each_are_bound_by_both_their_limits():
    rounds = [[row(n, 80.0 * n, waiting=4.0), row(n + 0.1, 80.0 * n, server=1, waiting=2.0)] for n in range(4)]
    found = choose([scrapes(*rounds).rung(32)], max_num_seqs=16)
    assert found.binds == "max_num_seqs"
    assert "a batch that stays at 16 (the servers' arguments allow 16)" in found.binding


def tick(t_s, *, client=0, lag_s=0.001, cpu_share=0.2):
    return TickRow(t_s, client, lag_s, 5.0 + cpu_share * (t_s + lag_s))


def answered(slot, send_s, end_s, outcome="completed"):
    return RequestRow("search 1x", 0, slot, False, False, 50, 10, send_s, Answer(outcome, end_s))


def test_a_rung_records_how_every_client_kept_up_and_the_worst_one_counts():
    watch = ClientWatch()
    for client, lag_s, cpu_share in ((0, 0.001, 0.2), (1, 0.070, 0.95)):
        watch.client_ticked([tick(0.02 * n, client=client, lag_s=lag_s, cpu_share=cpu_share) for n in range(100)])
    rung = scrapes([row(0.0, 0.0)], [row(1.0, 100.0)]).rung(16, watch)
    assert (rung.client.clients, rung.client.lag_p99_s) == (2, pytest.approx(0.070))
    assert rung.client.cpu_share == pytest.approx(0.95)
    assert len(rung.client_limits) == 2


def test_the_share_of_slots_empty_counts_refills_whose_requests_still_run():
    """Ten slots of 1 s: four answers each followed 20 ms later by a request, of which only one has ended since."""
    watch = ClientWatch()
    watch.client_ticked([tick(0.02 * n) for n in range(51)])
    for slot in range(4):
        watch.request_ended(answered(slot, -1.0, 0.5))
    watch.request_ended(answered(0, 0.52, 0.9, outcome="aborted"))
    health = scrapes([row(0.0, 0.0)], [row(1.0, 100.0)]).rung(10, watch).client
    assert (health.refills, health.refill_p99_s) == (1, pytest.approx(0.02))
    assert health.empty_slot_share == pytest.approx(4 * 0.02 / 10)


def test_a_watch_begun_anew_has_forgotten_and_without_ticks_nothing_is_known():
    watch = ClientWatch()
    assert watch.health(0.0, 1.0, 16) is None
    watch.client_ticked([tick(0.02 * n, lag_s=0.5) for n in range(50)])
    watch.begin()
    assert watch.health(0.0, 1.0, 16) is None
    watch.client_ticked([tick(0.02 * n) for n in range(50)])
    health = watch.health(0.0, 1.0, 16)
    assert (health.lag_max_s, health.empty_slot_share) == (0.001, None)


@pytest.mark.parametrize(
    ("argvs", "expected"),
    [
        ((("vllm", "--max-num-seqs", "32"),), 32),
        ((("vllm", "--max-num-seqs=32"), ("vllm", "--max-num-seqs", "8")), 40),
        ((("vllm", "--max-num-seqs", "32", "--max-num-seqs=64"),), 64),
        ((("vllm",),), None),
        ((("vllm", "--max-num-seqs"),), None),
        ((("vllm", "--max-num-seqs=8"), ("vllm",)), None),
        ((), None),
    ],
)
def test_the_largest_batch_is_read_from_every_servers_arguments(argvs, expected):
    assert max_num_seqs(argvs) == expected


@pytest.mark.parametrize("stale", [False, True], ids=["every round is new", "rounds hold older scrapes"])
def test_servers_scraped_out_of_step_make_no_scatter_in_a_rung_of_constant_throughput(stale):
    """Three servers at 100, 200 and 400 tok/s, scraped up to half a period apart: truth is 700 tok/s without error."""
    rng, rates, rounds, last = np.random.default_rng(1), (100.0, 200.0, 400.0), [], [None] * 3
    for n in range(40):
        for server, rate in enumerate(rates):
            if last[server] is None or not stale or rng.random() < 0.7:
                at_s = 0.5 * n + float(rng.uniform(0, 0.25)) + 0.1 * server
                last[server] = row(at_s, rate * at_s, server=server)
        rounds.append(list(last))
    rung = scrapes(*rounds).rung(16)
    assert rung.tps_tok_per_s == pytest.approx(700)
    assert rung.tps_u_tok_per_s == pytest.approx(0, abs=1e-6)


def test_a_rung_remembers_at_least_as_long_as_the_one_below():
    """Alternating rates have no memory; with 2 s from the rung below, batches of five times that are 10 s of 40 s."""
    seen = scrapes(*([row(0.5 * n, 100.0 * n + 10 * (n % 2))] for n in range(81)))
    alone, after = seen.rung(16), seen.rung(32, least_memory_s=2.0)
    assert alone.memory_s < 1.0
    assert (after.memory_s, after.tps_dof) == (pytest.approx(2.0), 3)


class Rising:
    """A load on servers whose throughput rises with every request in flight, and the bench around it."""

    def __init__(self, servers: int) -> None:
        self.concurrency, self.tokens, self.last_s, self.events = 0, 0.0, time.monotonic(), []
        self.target = SimpleNamespace(urls=tuple(f"http://127.0.0.1:{40_000 + n}" for n in range(servers)))
        self.instruments = SimpleNamespace(
            live=SimpleNamespace(), check=lambda: None, blind=False, monitor=self,
            run=SimpleNamespace(event=lambda name, **fields: self.events.append({"event": name, **fields})),
        )  # fmt: skip
        self.check_servers = self.check = lambda: None
        self.fill_s = 0.0

    async def nothing(self, **_: object) -> None:
        pass

    wait_quiet = ready = stop = nothing

    @property
    def latest(self) -> tuple[ServerRow, ...]:
        now_s = time.monotonic()
        self.tokens += 100.0 * self.concurrency * (now_s - self.last_s)
        self.last_s = now_s
        servers = len(self.target.urls)
        running = self.concurrency / servers
        return tuple(row(now_s, self.tokens, server=number, running=running) for number in range(servers))

    def loop(self, *_: object, **__: object) -> "Rising":
        return self

    def grow_to(self, concurrency: int) -> None:
        self.concurrency = concurrency

    def first_tokens(self) -> None:
        return None


@pytest.mark.parametrize(("servers", "last"), [(1, 32), (2, 64), (4, 128)])
def test_the_ladder_ends_at_so_many_requests_in_flight_a_server(monkeypatch, servers, last):
    monkeypatch.setattr(search_module, "LAST_CONCURRENCY", 32)
    bench: Any = Rising(servers)
    found = asyncio.run(search(bench, "1x", fixed_lengths(10, 100), rung_s=0.3))
    assert found.rungs[-1].concurrency == last
    assert (found.binds, found.concurrency) == ("not_found", last)
    assert [event["filled"] for event in bench.events if event["event"] == "rung"] == [False] * len(found.rungs)
