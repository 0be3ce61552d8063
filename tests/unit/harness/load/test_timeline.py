from pathlib import Path

import pytest

from harness.errors import ConfigError, WorkloadError
from harness.load.arrival import parse_arrival
from harness.load.timeline import arrivals_definition, planned_arrival
from tests.fakes.scripted_engine import Script
from tests.fakes.waiting import in_loop, until_in_loop
from tests.unit.harness.load.test_open_loop import LENGTHS, loading
from tests.unit.workloads.traces.files import TIMED

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:04.4799600,40,100
2023-11-16 18:17:03.9799600,30,10
2023-11-16 18:18:03.9799600,20,7
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.csv"
    file.write_text(TRACE)
    return file


def test_a_trace_gives_times_in_order_and_each_its_own_lengths(trace: Path) -> None:
    arrival = planned_arrival(parse_arrival("trace"), f"azure:{trace}", 2.0, 200, "auto")
    assert arrival.timeline is not None
    assert arrival.timeline.due_s == pytest.approx((0.0, 0.5, 60.0))
    assert arrival.timeline.input_tok == (30, 40, 20)
    assert arrival.timeline.output_tok == (20, 160, 14)
    assert (arrival.name, arrival.closed) == ("trace", False)


@pytest.mark.parametrize(("kind", "text"), TIMED.values(), ids=TIMED)
def test_the_times_of_every_format_can_be_scaled_to_a_rate(tmp_path: Path, kind: str, text: str) -> None:
    """Three usable requests, at 0, 3.5 and 60 s: two intervals in 60 s, twenty times as fast at 2 requests in 3 s."""
    file = tmp_path / "trace"
    file.write_text(text)
    arrival = planned_arrival(parse_arrival("trace:0.6666666666666666"), f"{kind}:{file}", 3.0, 2_000, 16)
    assert arrival.timeline is not None
    assert arrival.timeline.due_s == pytest.approx((0.0, 0.175, 3.0), abs=1e-6)
    assert arrival.timeline.input_tok == (374, 91, 500)
    assert arrival.timeline.output_tok == (132, 48, 1_500)
    assert (arrival.name, arrival.max_in_flight) == ("trace:0.666667", 16)
    definition = arrivals_definition("trace:0.6666666666666666", f"{kind}:{file}", 3)
    assert definition is not None
    assert (definition["requests"], definition["of"], "all" in definition["rule"]) == (3, 3, True)
    assert (definition["recorded_rate_per_s"], definition["rate_per_s"]) == (
        pytest.approx(2 / 60),
        pytest.approx(2 / 3),
    )


@in_loop
async def test_a_scaled_trace_leaves_at_its_times_with_its_lengths(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(TIMED["burstgpt"][1])
    arrival = planned_arrival(parse_arrival("trace:10"), f"burstgpt:{file}", 0.01, None, "auto")
    script = Script(tok_per_s=2_000)
    async with loading(script, arrival.queries(None, LENGTHS, 0, 1)) as load:  # type: ignore[arg-type]
        load.loop.grow_to(1)
        await until_in_loop(lambda: len(load.rows) >= 5, "five answers")
        await load.loop.stop(drain=True)
    rows = sorted(load.rows, key=lambda row: row.scheduled_mono_s or 0)[:5]
    due_s = [(row.scheduled_mono_s or 0) - (rows[0].scheduled_mono_s or 0) for row in rows]
    assert due_s == pytest.approx([0, 0.2 * 3.5 / 60, 0.2, 0.3, 0.3 + 0.2 * 3.5 / 60], abs=1e-6)
    assert [(row.input_tok_sent, row.output_tok_asked) for row in rows[:4]] == [(374, 1), (91, 1), (500, 10), (374, 1)]


def test_a_number_in_flight_limits_an_open_loop() -> None:
    assert planned_arrival(parse_arrival("poisson:2.5"), None, 1.0, None, 64).max_in_flight == 64
    assert planned_arrival(parse_arrival("poisson:2.5"), None, 1.0, None, "auto").name == "poisson:2.5"
    assert planned_arrival(parse_arrival("closed"), None, 1.0, None, 64).closed
    assert arrivals_definition("poisson:2.5", "traditional", None) is None


def test_a_trace_can_be_scaled_to_a_share_of_what_saturates_the_server(trace: Path) -> None:
    """Three requests in 60 s are 2 intervals; at half of 0.2 requests/s they take 20 s."""
    asked = parse_arrival("trace:50%")
    assert (asked.name, asked.closed) == ("trace:50%", False)
    arrival = planned_arrival(asked.at_saturation(0.2), f"azure:{trace}", 1.0, None, "auto")
    assert arrival.timeline is not None
    assert arrival.timeline.due_s == pytest.approx((0.0, 0.5 / 3, 20.0))
    assert arrival.name == "trace:0.1"
    definition = arrivals_definition("trace:50%", f"azure:{trace}", 3)
    assert definition is not None
    assert (definition["rate_per_s"], definition["saturation_share"]) == (None, 0.5)


@pytest.mark.parametrize("arrival", ["trace", "trace:3"])
@pytest.mark.parametrize("workload", ["traditional", "sharegpt:x.json", "vllm:x.jsonl", None])
def test_a_trace_needs_a_workload_with_times(arrival: str, workload: str | None) -> None:
    with pytest.raises(ConfigError, match="needs a workload with recorded times"):
        planned_arrival(parse_arrival(arrival), workload, 1.0, None, "auto")
    with pytest.raises(ConfigError, match="needs a workload with recorded times"):
        arrivals_definition(arrival, workload, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("TIMESTAMP", "WHEN"), "TIMESTAMP"),
        (("2023-11-16 18:18:03.9799600", "noon"), "request 3 has .*noon"),
        ((",40,100", ",200,1"), "do not fit the server's context"),
    ],
)
def test_a_trace_without_usable_times_or_too_long_is_refused(trace: Path, change: tuple[str, str], reason: str) -> None:
    trace.write_text(TRACE.replace(*change))
    with pytest.raises(WorkloadError, match=reason):
        planned_arrival(parse_arrival("trace"), f"azure:{trace}", 1.0, 200, "auto")


def test_a_trace_of_one_moment_cannot_be_scaled(trace: Path) -> None:
    trace.write_text(TRACE.replace("18:17:04.4799600", "18:17:03.9799600").replace("18:18:03", "18:17:03"))
    with pytest.raises(WorkloadError, match="all its requests have the same time"):
        planned_arrival(parse_arrival("trace:2"), f"azure:{trace}", 1.0, None, "auto")
