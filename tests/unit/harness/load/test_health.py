import asyncio
import time
from itertools import pairwise

import pandas as pd
import pytest

from harness.load.health import CLIENT_BOUND, TICK_S, ClientHealth, LoopTimer, TickRow, client_health, health_reasons
from tests.fakes.waiting import in_loop, until_in_loop

REQUEST = {"slot": 0, "outcome": "completed", "send_mono_s": 0.0, "end_mono_s": 1.0, "scheduled_mono_s": None}
REQUEST_COLUMNS = [*REQUEST, "held_back"]
TICK_COLUMNS = ["t_mono_s", "client", "lag_s", "cpu_s"]


def requests(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**REQUEST, "held_back": False, **row} for row in rows], columns=REQUEST_COLUMNS)


def ticks(lags_s: list[float], *, client: int = 0, cpu_share: float = 0.25) -> pd.DataFrame:
    """Ticks every 10 ms from 100 s on, each woken late by its lag, with a constant share of CPU."""
    rows = [(100 + 0.01 * n, client, lag_s, 3 + cpu_share * (0.01 * n + lag_s)) for n, lag_s in enumerate(lags_s)]
    return pd.DataFrame(rows, columns=TICK_COLUMNS)


NO_TICKS = ticks([])


@in_loop
async def test_a_free_event_loop_ticks_on_time() -> None:
    rows: list[TickRow] = []
    timer = LoopTimer(3, rows.extend)
    timer.start()
    await until_in_loop(lambda: len(rows) >= 20, "twenty ticks")
    timer.stop()
    count = len(rows)
    await asyncio.sleep(3 * TICK_S)
    assert len(rows) == count
    assert {row.client for row in rows} == {3}
    gaps_s = [after.t_mono_s - before.t_mono_s for before, after in pairwise(rows)]
    assert gaps_s == pytest.approx([TICK_S] * len(gaps_s))
    assert all(row.lag_s >= 0 for row in rows)
    assert all(before.cpu_s <= after.cpu_s for before, after in pairwise(rows))


@in_loop
async def test_every_deadline_a_stall_misses_is_noted_with_its_own_lag() -> None:
    rows: list[TickRow] = []
    timer = LoopTimer(0, rows.extend)
    timer.start()
    await until_in_loop(lambda: len(rows) >= 2, "two ticks")
    before = len(rows)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    end_s = time.monotonic()
    await until_in_loop(lambda: len(rows) > before, "the tick after the stall")
    timer.stop()
    stalled = [row for row in rows[before:] if row.t_mono_s < end_s]
    assert len(stalled) >= 0.3 / TICK_S - 3
    assert stalled[0].lag_s > 0.3 - 2 * TICK_S
    woken_s = {round(row.t_mono_s + row.lag_s, 6) for row in stalled}
    assert len(woken_s) == 1


def test_lag_percentiles_are_those_of_the_worst_client_in_the_window() -> None:
    steady, bad = ticks([0.001] * 1_000), ticks([0.001] * 970 + [0.2] * 30, client=1)
    health = client_health(pd.concat([steady, bad]), requests(), 100.0, 110.0)
    assert (health.clients, health.lag_p99_s, health.lag_max_s) == (2, 0.2, 0.2)
    early = client_health(pd.concat([steady, bad]), requests(), 100.0, 105.0)
    assert early.lag_p99_s == pytest.approx(0.001)


def test_the_share_of_cpu_is_cpu_time_over_wall_time_between_wake_ups() -> None:
    busy = ticks([0.0, 0.03, 0.02, 0.01] * 100, cpu_share=0.9)
    assert client_health(busy, requests(), 100.0, 104.0).cpu_share == pytest.approx(0.9, rel=1e-6)


def test_a_refill_is_the_time_from_an_answer_to_the_next_request_of_the_slot() -> None:
    rows = requests(
        {"slot": 0, "send_mono_s": 90.0, "end_mono_s": 100.0},
        {"slot": 1, "send_mono_s": 95.0, "end_mono_s": 101.0},
        {"slot": 0, "send_mono_s": 100.2, "end_mono_s": 102.0},
        {"slot": 0, "send_mono_s": 102.4, "end_mono_s": 103.0, "outcome": "error"},
        {"slot": 0, "send_mono_s": 108.0, "end_mono_s": 112.0},
        {"slot": 1, "send_mono_s": 101.6, "end_mono_s": 120.0, "outcome": "aborted"},
    )
    health = client_health(NO_TICKS, rows, 99.0, 109.0)
    assert health.refills == 3
    assert health.refill_p50_s == pytest.approx(0.4)
    assert health.empty_slot_share == pytest.approx((0.2 + 0.6 + 0.4) / (2 * 10))


def test_open_loop_lateness_counts_only_what_nothing_held_back() -> None:
    due = {"slot": -1, "scheduled_mono_s": 100.0}
    rows = requests(
        {**due, "send_mono_s": 100.01},
        {**due, "send_mono_s": 100.01},
        {**due, "send_mono_s": 104.0, "held_back": True},
        {**due, "send_mono_s": None, "held_back": True, "outcome": "aborted"},
    )
    health = client_health(NO_TICKS, rows, 99.0, 109.0)
    assert health.send_late_p99_s == pytest.approx(0.01)
    assert health.held_back == 2
    assert (health.refills, health.empty_slot_share) == (0, None)


def test_without_a_record_nothing_is_known_and_nothing_is_blamed() -> None:
    health = client_health(NO_TICKS, requests(), 0.0, 1.0)
    assert (health.lag_p99_s, health.lag_max_s, health.cpu_share, health.refill_p99_s) == (None, None, None, None)
    assert health_reasons(health) == ()


GOOD = {"lag_p99_s": 0.05, "cpu_share": 0.8, "empty_slot_share": 0.02, "send_late_p99_s": 0.05}


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({}, False),
        ({"lag_p99_s": 0.051}, True),
        ({"cpu_share": 0.81}, True),
        ({"empty_slot_share": 0.021}, True),
        ({"send_late_p99_s": 0.051}, True),
        ({"lag_p99_s": None, "cpu_share": None}, False),
    ],
)
def test_the_client_binds_beyond_any_of_its_limits(change: dict[str, float | None], bound: bool) -> None:
    unjudged = {"clients": 1, "ticks": 1, "lag_max_s": 9.0, "refills": 1, "refill_p50_s": 9.0, "refill_p99_s": 9.0}
    health = ClientHealth(**{**GOOD, **change}, **unjudged, held_back=0)  # type: ignore[arg-type]
    assert health_reasons(health) == ((CLIENT_BOUND,) if bound else ())
