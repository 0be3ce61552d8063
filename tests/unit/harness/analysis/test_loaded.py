"""What a hand-made log says of its load: the clients' health over the window alone, and the share within limits."""

import pandas as pd
import pytest

from harness.analysis.celllog import CellLog
from harness.analysis.loaded import client_reasons, load_fields
from harness.analysis.steady import Window
from results.schema import CellDefinition
from tests.unit.harness.synthetic_run import PLAIN

START_S, END_S = 100.0, 200.0
WINDOW = Window(0, 200, START_S, END_S, "precision_reached", {}, None, 1.0, 50.0, ())
REQUEST = {
    "cell": "1x", "slot": 0, "first_fill": False, "streamed": False, "outcome": "completed", "send_mono_s": 110.0,
    "first_mono_s": None, "end_mono_s": 120.0, "output_tok": 101, "scheduled_mono_s": None, "held_back": False,
}  # fmt: skip
FLOATS = dict.fromkeys(("send_mono_s", "first_mono_s", "end_mono_s", "scheduled_mono_s"), float)


def log(requests=(), client=()):
    definition = CellDefinition.model_validate(PLAIN.definition())
    sent = pd.DataFrame([REQUEST | row for row in requests], columns=list(REQUEST)).astype(FLOATS)
    ticks = pd.DataFrame(list(client), columns=["t_mono_s", "client", "lag_s", "cpu_s"])
    empty = pd.DataFrame()
    return CellLog(definition, 90.0, 95.0, END_S, 210.0, empty, empty, sent, False, client=ticks)


def ticks(start_s, end_s, *, client=0, lag_s=0.001, cpu_share=0.25):
    count = round((end_s - start_s) / 0.1)
    return [(start_s + 0.1 * n, client, lag_s, cpu_share * (start_s + 0.1 * n)) for n in range(count)]


def chain(slot, delay_s, count=10):
    """Requests of 9 s that follow each other in a slot, each ``delay_s`` after the last one's end."""
    starts = [100 + number * (9 + delay_s) for number in range(count)]
    return [{"slot": slot, "send_mono_s": start_s, "end_mono_s": start_s + 9} for start_s in starts]


def test_a_run_without_a_record_of_its_clients_says_nothing_of_them():
    assert load_fields(log([{}]), WINDOW, {}) == {"client": None, "goodput": None}
    assert client_reasons(log([{}]), WINDOW) == ()


def test_clients_are_judged_over_the_window_alone():
    calm = log(client=[*ticks(80, 99, lag_s=3.0), *ticks(100, 200), *ticks(201, 210, lag_s=3.0)])
    fields = load_fields(calm, WINDOW, {})["client"]
    assert (fields["clients"], fields["ticks"]) == (1, 1000)
    assert (fields["lag_p99_s"], fields["lag_max_s"]) == (pytest.approx(0.001), pytest.approx(0.001))
    assert fields["cpu_share"] == pytest.approx(0.25)
    assert (fields["refills"], fields["refill_p99_s"], fields["send_late_p99_s"]) == (0, None, None)
    assert client_reasons(calm, WINDOW) == ()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (ticks(100, 200, lag_s=0.051), ("client_bound",)),
        (ticks(100, 200, lag_s=0.049), ()),
        (ticks(100, 200, cpu_share=0.81), ("client_bound",)),
        ([*ticks(100, 200), *ticks(100, 200, client=1, cpu_share=0.81)], ("client_bound",)),
        ([*ticks(100, 200), *ticks(100, 200, client=1)], ()),
        ([*ticks(100, 200)[:990], *ticks(199, 200, lag_s=0.06)], ()),
        ([*ticks(100, 200)[:980], *ticks(198, 200, lag_s=0.06)], ("client_bound",)),
    ],
    ids=["lag", "less lag", "CPU", "CPU of one of two", "two that keep up", "1% late", "2% late"],
)
def test_a_client_beyond_a_limit_is_a_reason_of_its_cell(client, expected):
    assert client_reasons(log(client=client), WINDOW) == expected


@pytest.mark.parametrize(("delay_s", "expected"), [(0.1, ()), (0.3, ("client_bound",))])
def test_slots_that_stand_empty_are_a_reason(delay_s, expected):
    record = log([*chain(0, delay_s), *chain(1, delay_s)], ticks(100, 200))
    fields = load_fields(record, WINDOW, {})["client"]
    assert (fields["refills"], fields["refill_p50_s"]) == (18, pytest.approx(delay_s))
    assert fields["empty_slot_share"] == pytest.approx(18 * delay_s / (2 * 100))
    assert client_reasons(record, WINDOW) == expected


def streamed(ttft_s, itl_s, **row):
    first_s = 110 + ttft_s
    return {"streamed": True, "first_mono_s": first_s, "end_mono_s": first_s + 100 * itl_s} | row


ASKED = [
    streamed(0.5, 0.02),
    streamed(0.4, 0.01),
    streamed(1.5, 0.02),  # late at first
    streamed(0.5, 0.06),  # slow after
    streamed(0.5, 0.02, outcome="error"),
    streamed(0.5, 0.02, outcome="aborted"),  # late enough for 0.45 s, else its time between tokens is not known
    streamed(0.5, 0.02, first_fill=True),
    streamed(0.5, 0.02, send_mono_s=99.0),
    {"streamed": False},
]


@pytest.mark.parametrize(
    ("config", "met", "unfinished"),
    [
        ({"slo_ttft_s": 1.0, "slo_itl_s": 0.05}, 2, 1),
        ({"slo_ttft_s": 1.0}, 4, 0),
        ({"slo_itl_s": 0.05}, 3, 1),
        ({"slo_ttft_s": 0.45}, 1, 0),
    ],
)
def test_goodput_is_the_share_of_streamed_requests_due_in_the_window_within_every_limit_given(config, met, unfinished):
    goodput = load_fields(log(ASKED), WINDOW, config)["goodput"]
    assert (goodput["met"], goodput["n"], goodput["failed"], goodput["unfinished"]) == (met, 6, 1, unfinished)
    assert goodput["bounds"] == pytest.approx((met / 6, (met + unfinished) / 6))
    assert goodput["share"] == (None if unfinished else pytest.approx(met / 6))
    low, high = goodput["ci95"]
    assert low < met / 6 <= (met + unfinished) / 6 < high
    assert (goodput["ttft_limit_s"], goodput["itl_limit_s"]) == (config.get("slo_ttft_s"), config.get("slo_itl_s"))


def test_an_objective_that_no_request_could_be_judged_by_has_no_share():
    goodput = load_fields(log([{"streamed": False}]), WINDOW, {"slo_ttft_s": 1.0})["goodput"]
    assert (goodput["n"], goodput["share"], goodput["ci95"]) == (0, None, None)
