"""Which rows the table of a run has, and what stands in them."""

import pytest

from harness.console.run import result_text
from results.report.tables import output_tokens
from results.schema import (
    CellResult,
    DeviceResult,
    EnergyRatio,
    Latency,
    QueryEnergy,
    RequestCount,
    RunResult,
    RunSummary,
    TaskResult,
    TokenCheck,
)

RUN = RunSummary(
    id="r", path="runs/r", status="complete", started_wall_s=0.0, model="m", server_version=None,
    power_source="nvml", boundary="gpu", node_profile=None, prediction="none", labels=(),
)  # fmt: skip
UNKNOWN = dict.fromkeys(
    (
        "mean_w", "joules_counter", "joules_integral", "integral_difference_rel", "throttled_share",
        "throttled_by_cause", "temperature_max_c", "sm_clock_mean_mhz", "utilization_mean_ratio", "memory_max_b",
        "power_limit_w", "ecc_corrected", "ecc_uncorrected", "xids", "foreign_processes",
    )
)  # fmt: skip


def device(**known):
    return DeviceResult(
        **{**UNKNOWN, "uuid": "a", "source": "nvml", "foreign_processes_why": "", "reasons": (), **known}
    )


def cell(name="1x", **known):
    return CellResult(
        **{
            "name": name, "role": "compared", "workload": "w", "multiplier": 1, "concurrency": 4, "mean_input_tok": 9,
            "mean_output_tok": 9, "median_output_tok": 9, "capped_share": 0, "power_source": "nvml", "boundary": "gpu",
            "binding": "compute", "requests": RequestCount(completed=1, aborted=0, errors=0),
            "tokens": TokenCheck(counter_tok=1, usage_completed_tok=1, unfinished_limit_tok=0, consistent=True),
            "verdict": "valid", "reasons": (), **known,
        }
    )  # fmt: skip


def table(*cells):
    """Return the rows of the table by name, each as the text after the name."""
    result = RunResult(run=RUN, idle=None, cells=cells, calibration_cells=(), energy_ratio=None)
    rows = [line.strip("│┃ ") for line in result_text(result, 220).splitlines() if line.startswith("│")]
    parts = [[part.strip() for part in row.split("│")] for row in rows]
    return {name: values[0] if len(cells) == 1 else values for name, *values in parts}


CONDITIONS = ("throttled", "temperature", "power limit", "processes", "p90", "goodput", "client")


def test_what_no_cell_knows_has_no_row():
    assert [name for name in table(cell(devices=(device(),))) if any(word in name for word in CONDITIONS)] == []


def test_the_watts_stay_even_where_they_are_unknown():
    assert table(cell())["watts (nvml, gpu)"] == "n/a"


def test_a_row_that_one_cell_knows_says_of_the_others_that_it_is_not_known():
    rows = table(cell(devices=(device(temperature_max_c=61.0),)), cell("15x"))
    assert rows["highest GPU temperature (°C)"] == ["61", "n/a"]


def test_of_several_gpus_the_worst_is_shown_with_the_causes_that_are_throttling():
    rows = table(
        cell(
            devices=(
                device(throttled_share=0.25, throttled_by_cause={"sw_power_cap": 0.25}, temperature_max_c=70.0,
                       power_limit_w=700.0, foreign_processes=False),
                device(throttled_share=0.5, throttled_by_cause={"gpu_idle": 0.1, "sw_power_cap": 0.5,
                       "hw_slowdown": 0.05}, temperature_max_c=61.0, power_limit_w=450.0),
            )
        )
    )  # fmt: skip
    assert rows["throttled readings (worst GPU)"] == "50% (sw_power_cap 50%, hw_slowdown 5%)"
    assert rows["highest GPU temperature (°C)"] == "70"
    assert rows["GPU power limit (W)"] == "450 to 700"
    assert rows["others' processes on the GPUs"] == "unknown"


@pytest.mark.parametrize(
    ("found", "words"),
    [((True, None), "yes"), ((False, False), "no"), ((False, None), "unknown")],
)
def test_others_are_on_the_gpus_if_on_any_and_not_if_on_none(found, words):
    rows = table(cell(devices=tuple(device(foreign_processes=foreign) for foreign in found)))
    assert rows["others' processes on the GPUs"] == words


@pytest.mark.parametrize(("p99_s", "words"), [(None, "0.2000 / n/a"), (0.5, "0.2000 / 0.5000")])
def test_tails_of_latency_are_shown_as_far_as_they_are_known(p99_s, words):
    latency = Latency(p50_s=0.1, p90_s=0.2, p99_s=p99_s, probes=100, server_mean_s=None)
    rows = table(cell(ttft_s=latency, itl_s=latency))
    assert (rows["TTFT p90 / p99 (s)"], rows["inter-token latency p90 / p99 (s)"]) == (words, words)


def test_client_health_and_goodput_are_shown_where_they_are_stored():
    met = {
        "share": 0.9, "bounds": (0.9, 0.9), "ci95": (0.8, 0.95), "n": 100, "ttft_limit_s": 1.0, "itl_limit_s": None,
    }  # fmt: skip
    client = {"lag_p99_s": 0.0012, "cpu_share": 0.25, "refill_p99_s": 0.004}
    rows = table(cell(client=client, goodput=met))
    assert rows["client: event-loop lag, p99 (ms)"] == "1.2"
    assert rows["client: share of a core"] == "25%"
    assert rows["client: slot refill, p99 (ms)"] == "4.0"
    assert rows["goodput (streamed requests within limits)"] == "90.0% of 100 (95% 0.8 to 0.95): TTFT <= 1 s"
    rows = table(cell(client=client, goodput={**met, "share": None, "bounds": (0.85, 0.9)}))
    assert rows["goodput (streamed requests within limits)"].startswith("85.0% to 90.0% of 100 (95% 0.8 to 0.95)")


def as_served(name="1x", asked=100, served=80.0):
    energy = QueryEnergy(
        mean=0.02, output_tok=served, p50=0.02, p50_rule="r", boundary="gpu", pue=1.0, pue_source="s",
        mean_without_pue=0.02, standard_uncertainty_rel=None, uncertainty_parts_rel={},
    )  # fmt: skip
    task = TaskResult(
        mean_steps=3, mean_requests=3, mean_output_tok=3 * asked, served_output_tok=3 * served, cut_share=0, completed=1
    )
    return cell(name, mean_output_tok=asked, median_output_tok=asked, wh_per_query=energy, task=task)


def test_beside_energies_of_lengths_that_the_server_chose_stand_those_lengths():
    rows = table(as_served())
    assert rows["output tokens, mean / median"] == "80 as served (asked for 100 / 100)"
    assert rows["output tokens of a task, mean"] == "240 as served (asked for 300)"
    forced = table(as_served(served=100))
    assert forced["output tokens, mean / median"] == "100 / 100"
    assert forced["output tokens of a task, mean"] == "300"


def test_an_energy_ratio_of_lengths_as_served_names_them():
    ratio = EnergyRatio(multiplier=2, measured=1.9, verdict="suspect", eq1=None)
    cells = (as_served(), as_served("2x", 200, 150.0))
    text = result_text(RunResult(run=RUN, idle=None, cells=cells, calibration_cells=(), energy_ratio=ratio), 220)
    assert "of 1x: 80 as served (asked for 100 / 100) output tokens" in text
    assert "of 2x: 150 as served (asked for 200 / 200) output tokens" in text
    assert "as served" not in result_text(
        RunResult(run=RUN, idle=None, cells=(cell(),), calibration_cells=(), energy_ratio=ratio), 220
    )


def test_the_report_says_of_which_lengths_energies_are_and_what_was_asked_for():
    assert output_tokens(as_served()) == "80 as served (asked for 100)"
    assert output_tokens(as_served(served=100)) == "100"
