from pathlib import Path

import pytest

from harness.errors import ConfigError, WorkloadError
from harness.load.timeline import planned_arrival

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
    arrival = planned_arrival("trace", f"azure:{trace}", 2.0, 200, "auto")
    assert arrival.timeline is not None
    assert arrival.timeline.due_s == pytest.approx((0.0, 0.5, 60.0))
    assert arrival.timeline.input_tok == (30, 40, 20)
    assert arrival.timeline.output_tok == (20, 160, 14)
    assert (arrival.name, arrival.closed) == ("trace", False)


def test_a_number_in_flight_limits_an_open_loop() -> None:
    assert planned_arrival("poisson:2.5", None, 1.0, None, 64).max_in_flight == 64
    assert planned_arrival("poisson:2.5", None, 1.0, None, "auto").name == "poisson:2.5"
    assert planned_arrival("closed", None, 1.0, None, 64).closed


def test_a_trace_needs_a_workload_with_times() -> None:
    with pytest.raises(ConfigError, match="needs a workload with recorded times"):
        planned_arrival("trace", "traditional", 1.0, None, "auto")


@pytest.mark.parametrize(
    ("change", "reason"),
    [(("TIMESTAMP", "WHEN"), "no column TIMESTAMP"), (("2023-11-16 18:18:03.9799600", "noon"), "request 3 has .*noon")],
)
def test_a_trace_without_usable_times_is_refused(trace: Path, change: tuple[str, str], reason: str) -> None:
    trace.write_text(TRACE.replace(*change))
    with pytest.raises(WorkloadError, match=reason):
        planned_arrival("trace", f"azure:{trace}", 1.0, None, "auto")
