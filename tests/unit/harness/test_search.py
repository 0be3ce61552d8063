import pytest

from harness.search import Scrapes, max_num_seqs
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


def test_the_error_of_throughput_is_that_of_batches_of_three_intervals():
    """Two batches of 3 s with 300 and 330 tokens: their rates are 5 tok/s from the mean, over root 1 free batch."""
    tokens = [0, 100, 200, 300, 410, 520, 630]
    rung = scrapes(*([row(float(n), float(total))] for n, total in enumerate(tokens))).rung(16)
    assert rung.tps_tok_per_s == pytest.approx(105)
    assert rung.tps_u_tok_per_s == pytest.approx(5)


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
