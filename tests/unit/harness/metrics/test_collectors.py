import re
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from estimator.nodes import load_profile
from harness.live.state import PHASES, LiveState, QueryFigure
from harness.live.totals import LAG_BOUNDS_S
from harness.load.health import MAX_LAG_P99_S, TickRow
from harness.metrics.catalogue import METRICS, PROFILE_SOURCE
from harness.metrics.collectors import NodeCollector, NodeModel, Pue, RunCollector, source_kind
from harness.power.base import PowerRow
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow


def power(t_s, uuid, power_w, energy_j, source="nvml"):
    return PowerRow(
        uuid, power_w=power_w, energy_j=energy_j, utilization_ratio=0.5, temperature_c=60.0,
        t_mono_s=t_s, t_wall_s=t_s, late_s=0.0, source=source, boundary="gpu",
    )  # fmt: skip


def live_run(source="nvml"):
    live = LiveState(phase="measure", cell="1x", missed_power_samples=3)
    live.power_read([power(0, "a", 300, 1000, source), power(0, "b", 400, 2000, source)])
    live.power_read([power(1, "a", 300, 1300, source), power(1, "b", 400, 2400, source)])
    for tokens in (100.0, 1_100.0):
        counters = ServerCounters(
            running=8, waiting=2, kv_usage_ratio=0.7, generation_tok=tokens, prompt_tok=tokens / 2
        )
        live.servers_scraped([ServerRow(0, 0, 0, counters)])
    live.request_ended("completed")
    live.figures = (QueryFigure("1x", "measured", "mean", 0.5, source, "node_modelled x PUE"),)
    return live


HGX = NodeModel(load_profile("hgx-h100"), 0.25)


def exported(collector):
    """Return the families of one scrape, through the text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(collector)
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def scrape(live, node=None, pue=None):
    return exported(RunCollector(live, "run-1", node, pue))


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def test_each_device_exports_watts_and_joules_since_the_run_began():
    found = samples(scrape(live_run()))
    labels = {"device": "b", "source": "nvml", "boundary": "gpu"}
    assert value(found, "harness_power_watts", **labels) == 400
    assert value(found, "harness_energy_joules_total", **labels) == 400
    assert value(found, "harness_gpu_utilization_ratio", **labels) == 0.5
    assert value(found, "harness_gpu_temperature_celsius", **labels) == 60


def test_throttled_time_is_counted_by_cause_for_devices_that_tell_and_left_out_for_others():
    live = live_run()
    for t_s, mask in ((2, 0x1), (3, 0x4), (5, 0x4 | 0x40), (6, None)):
        live.power_read([replace(power(t_s, "a", 300, 1300), throttle_reasons=mask)])
    found = {
        (dict(labels)["device"], dict(labels)["cause"]): seconds
        for (name, labels), seconds in samples(scrape(live)).items()
        if name == "harness_gpu_throttled_seconds_total"
    }
    assert {device for device, _ in found} == {"a"}
    assert {cause: seconds for (_, cause), seconds in found.items() if seconds} == {
        "sw_power_cap": 3, "hw_thermal_slowdown": 2,
    }  # fmt: skip
    assert found["a", "hw_power_brake"] == 0
    assert ("a", "gpu_idle") not in found


def test_node_watts_are_modelled_from_all_devices_and_say_so():
    found = samples(scrape(live_run(), HGX))
    labels = {"source": "nvml", "boundary": "node_modelled", "node_profile": "hgx-h100"}
    assert value(found, "harness_node_power_watts", **labels) == pytest.approx(0.25 * 1600 + 1.22 * 700)


def test_node_watts_are_left_out_while_a_device_does_not_answer():
    live = live_run()
    live.power_read([power(2, "a", None, None)])
    found = samples(scrape(live, HGX))
    assert not [name for name, _ in found if name == "harness_node_power_watts"]
    watts = [labels for name, labels in found if name == "harness_power_watts"]
    assert [dict(labels)["device"] for labels in watts] == ["b"]


def test_tokens_and_requests_are_counted_since_the_run_began():
    found = samples(scrape(live_run()))
    assert value(found, "harness_generated_tokens_total", server="0") == 1_000
    assert value(found, "harness_prompt_tokens_total", server="0") == 500
    assert value(found, "harness_requests_running", server="0") == 8
    assert value(found, "harness_requests_waiting", server="0") == 2
    assert value(found, "harness_kv_cache_usage_ratio", server="0") == pytest.approx(0.7)
    assert value(found, "harness_requests_total", outcome="completed") == 1
    assert value(found, "harness_requests_total", outcome="error") == 0
    assert value(found, "harness_power_samples_missed_total") == 3


def test_energy_per_query_is_exported_in_joules():
    found = samples(scrape(live_run()))
    labels = {"cell": "1x", "kind": "measured", "stat": "mean", "source": "nvml", "boundary": "node_modelled x PUE"}
    assert value(found, "harness_query_energy_joules", **labels) == 0.5 * 3_600


def test_exactly_one_phase_is_on():
    found = samples(scrape(live_run()))
    phases = {dict(labels)["phase"]: on for (name, labels), on in found.items() if name == "harness_phase"}
    assert phases == {phase: float(phase == "measure") for phase in PHASES}
    assert value(found, "harness_cell_info", cell="1x") == 1


LABELS = {metric.name.removesuffix("_total"): metric.labels for metric in METRICS}


def test_every_metric_follows_the_conventions():
    families = scrape(live_run(), HGX)
    assert len(families) > 10
    for family in families:
        assert family.documentation
        assert re.fullmatch(r"harness_[a-z_]+", family.name)
        assert family.type in ("gauge", "counter", "histogram", "summary")
        assert not re.search(r"_(kw|wh|mj|ms|percent|pct)(_|$)", family.name)
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        assert all(sample.labels.keys() - {"le"} == set(LABELS[family.name]) for sample in family.samples)


@pytest.mark.parametrize("source", ["nvml", "simulated"])
def test_everything_with_joules_or_watts_carries_its_source_and_boundary(source):
    families = scrape(live_run(source), HGX)
    energies = [sample for family in families for sample in family.samples if re.search("joules|watts", sample.name)]
    assert len(energies) >= 6
    assert all(sample.labels["source"] in (source, PROFILE_SOURCE) and sample.labels["boundary"] for sample in energies)


def test_a_run_that_has_measured_nothing_yet_can_be_scraped():
    found = samples(scrape(LiveState()))
    assert value(found, "harness_phase", phase="plan") == 1
    assert not [name for name, _ in found if "joules" in name]


def test_a_server_that_failed_to_answer_exports_no_old_figures():
    live = live_run()
    live.servers_scraped([ServerRow(1, 1, 0, ServerCounters(), "URLError: refused")])
    found = samples(scrape(live))
    assert not [name for name, _ in found if name.startswith(("harness_generated", "harness_requests_running"))]


def test_counter_and_integral_of_a_device_are_exported_apart():
    live = LiveState()
    for t_s, watts, counted_j in ((0, 300, 1000), (1, 300, None), (2, 300, 1580)):
        live.power_read([power(t_s, "a", watts, counted_j)])
    found = samples(scrape(live))
    labels = {"device": "a", "source": "nvml", "boundary": "gpu"}
    assert value(found, "harness_energy_accumulated_joules_total", **labels) == 580
    assert value(found, "harness_energy_integrated_joules_total", **labels) == 600


def test_a_device_without_a_counter_exports_none():
    live = LiveState()
    for t_s in (0, 1):
        live.power_read([power(t_s, "a", 300, None)])
    names = {name for name, _ in samples(scrape(live))}
    assert "harness_energy_integrated_joules_total" in names
    assert "harness_energy_accumulated_joules_total" not in names


def test_a_lost_device_is_down_and_its_readings_and_those_that_failed_are_counted():
    live = live_run()
    live.power_read([replace(power(2, "a", None, None), error="gpu_lost")])
    found = samples(scrape(live))
    up = {dict(labels)["device"]: on for (name, labels), on in found.items() if name == "harness_device_up"}
    assert up == {"a": 0, "b": 1}
    labels = {"source": "nvml", "boundary": "gpu"}
    assert value(found, "harness_power_readings_total", device="a", **labels) == 3
    assert value(found, "harness_power_readings_total", device="b", **labels) == 2
    assert value(found, "harness_power_reading_errors_total", device="a", **labels) == 1
    assert value(found, "harness_power_reading_errors_total", device="b", **labels) == 0


def test_node_joules_are_the_nodes_own_over_the_time_and_those_of_its_gpus_lifted():
    live = LiveState()
    for t_s in (0, 10):
        live.power_read([power(t_s, "a", 300, 300 * t_s), power(t_s, "b", 400, 400 * t_s)])
    labels = {"source": "nvml", "boundary": "node_modelled", "node_profile": "hgx-h100"}
    joules = value(samples(scrape(live, HGX)), "harness_node_energy_joules_total", **labels)
    assert joules == pytest.approx(10 * (0.25 * 1600 + 1.22 * 700))


def test_node_joules_are_left_out_while_a_device_does_not_answer_and_catch_up_when_it_does():
    labels = {"source": "nvml", "boundary": "node_modelled", "node_profile": "hgx-h100"}
    live = LiveState()
    live.power_read([power(0, "a", 300, 0)])
    live.power_read([power(5, "a", None, None)])
    assert not [name for name, _ in samples(scrape(live, HGX)) if name == "harness_node_energy_joules_total"]
    live.power_read([power(10, "a", 300, 3000)])
    joules = value(samples(scrape(live, HGX)), "harness_node_energy_joules_total", **labels)
    assert joules == pytest.approx(10 * 0.25 * 1600 + 1.22 * 3000)


@pytest.mark.parametrize(
    ("allocation", "added_w"), [("share", 0.0), ("marginal", -0.25 * 2550), ("whole", 0.75 * 2550)]
)
def test_node_watts_joules_and_maximum_follow_the_allocation(allocation, added_w):
    profile = load_profile("hgx-h100")
    model = NodeModel(profile, 0.25, allocation)
    added_w *= profile.p_idle_kw / 2.55
    assert model.watts(700) == pytest.approx(0.25 * 1600 + 1.22 * 700 + added_w)
    assert model.joules(7000, 10) == pytest.approx(10 * model.watts(700))
    assert model.max_watts == pytest.approx(0.25 * 11_300 + added_w)


def test_the_maximum_of_the_profile_and_the_pue_are_exported():
    found = samples(scrape(live_run(), HGX, Pue(1.2, "measured")))
    labels = {"source": "node_profile", "boundary": "node_modelled", "node_profile": "hgx-h100"}
    assert value(found, "harness_node_power_max_watts", **labels) == pytest.approx(0.25 * 11_300)
    assert value(found, "harness_pue_ratio", source="measured") == 1.2


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("nvml", "measured"), ("redfish", "measured"), ("simulated", "simulated"),
        ("replay of nvml and trace.csv", "replayed"), ("replay of simulated and run-7", "simulated"),
    ],
)  # fmt: skip
def test_a_source_that_invents_or_repeats_its_joules_is_named_so(source, kind):
    assert source_kind(source) == kind
    found = samples(scrape(live_run(source)))
    assert value(found, "harness_power_source_info", source=source, boundary="gpu", kind=kind) == 1


def test_a_servers_counters_go_on_over_its_restart():
    """One counter that fell shows the restart: those that were passed again by then began anew too."""
    live = LiveState()
    for generated, ended in ((100, 10), (900, 30), (50, 30), (70, 33)):
        counters = ServerCounters(generation_tok=generated, finished_requests=ended, ttft_count=ended, ttft_sum_s=ended)
        live.servers_scraped([ServerRow(0, 0, 0, counters)])
    found = samples(scrape(live))
    assert value(found, "harness_generated_tokens_total", server="0") == 800 + 70
    assert value(found, "harness_finished_requests_total", server="0") == 20 + 33
    assert value(found, "harness_time_to_first_token_seconds_count", server="0") == 53
    assert value(found, "harness_time_to_first_token_seconds_sum", server="0") == 53
    assert value(found, "harness_server_restarts_total", server="0") == 1


def test_a_server_that_does_not_answer_is_down_and_goes_on_from_where_it_was():
    live = live_run()
    live.servers_scraped([ServerRow(1, 1, 0, ServerCounters(), "URLError: refused")])
    assert value(samples(scrape(live)), "harness_server_up", server="0") == 0
    live.servers_scraped([ServerRow(2, 2, 0, ServerCounters(generation_tok=1_500.0))])
    found = samples(scrape(live))
    assert value(found, "harness_server_up", server="0") == 1
    assert value(found, "harness_generated_tokens_total", server="0") == 1_400
    assert value(found, "harness_server_restarts_total", server="0") == 0


def test_the_lateness_of_a_client_is_a_histogram_with_a_bound_at_its_limit():
    assert MAX_LAG_P99_S in LAG_BOUNDS_S
    live = LiveState()
    lags_s = (0.0, 0.001, 0.0011, 0.05, 0.051, 3.0)
    live.client_ticked([TickRow(0.02 * number, 0, lag_s, 0.0) for number, lag_s in enumerate(lags_s)])
    found = samples(scrape(live))
    name = "harness_client_event_loop_lag_seconds"
    buckets = {
        le: value(found, f"{name}_bucket", client="0", le=le) for le in ("0.001", "0.002", "0.05", "1.0", "+Inf")
    }
    assert buckets == {"0.001": 2, "0.002": 3, "0.05": 4, "1.0": 5, "+Inf": 6}
    assert value(found, f"{name}_count", client="0") == 6
    assert value(found, f"{name}_sum", client="0") == pytest.approx(sum(lags_s))


def test_processor_time_of_a_client_counts_under_load_alone():
    live = LiveState()
    ticks = ((10.00, 5.0), (10.02, 5.01), (10.04, 5.02), (70.00, 9.0), (70.02, 9.005), (90.0, 0.1), (90.02, 0.11))
    live.client_ticked([TickRow(t_s, 0, 0.0, cpu_s) for t_s, cpu_s in ticks])
    found = samples(scrape(live))
    assert value(found, "harness_client_cpu_seconds_total", client="0") == pytest.approx(0.02 + 0.005 + 0.01)


def test_the_mean_output_of_the_cell_under_load_is_exported():
    live = live_run()
    live.cell_output_tok = 120.0
    assert value(samples(scrape(live)), "harness_cell_output_tokens", cell="1x") == 120


def node(live):
    return exported(NodeCollector(live, HGX, Pue(1.1, "measured")))


def test_a_node_exports_power_and_servers_and_nothing_of_a_run():
    names = {metric.name: metric.by for metric in METRICS}
    found = samples(node(live_run()))
    said = {name.removesuffix("_count").removesuffix("_sum") for name, _ in found}
    assert {names[name] for name in said} == {"both", "node"}
    assert {"harness_energy_joules_total", "harness_generated_tokens_total", "harness_pue_ratio"} <= said


@pytest.mark.parametrize("scraped", [scrape, node])
def test_the_addresses_of_servers_are_exported_without_a_password(scraped):
    live = LiveState(server_urls=("http://user:word@127.0.0.1:8000", "http://127.0.0.1:8001/b"))
    found = samples(scraped(live))
    assert value(found, "harness_server_info", server="0", url="http://127.0.0.1:8000") == 1
    assert value(found, "harness_server_info", server="1", url="http://127.0.0.1:8001/b") == 1


# The last five minutes of a node ------------------------------------------------------------------------


class Watched:
    """A node of two GPUs of 300 W and 400 W, watched by an exporter."""

    def __init__(self, pue=None):
        self.live = LiveState()
        self.collector = NodeCollector(self.live, HGX, pue)

    def at(self, t_s, *, tokens=None, finished=None, lost=False):
        b = power(t_s, "b", None, None) if lost else power(t_s, "b", 400, 400 * t_s)
        self.live.power_read([power(t_s, "a", 300, 300 * t_s), b])
        self.collector.servers_scraped(
            [ServerRow(t_s, t_s, 0, ServerCounters(generation_tok=tokens, finished_requests=finished))]
        )

    def recent(self, what):
        found = samples(exported(self.collector))
        name = f"harness_recent_{what}"
        return {dict(labels).get("boundary", ""): joules for (each, labels), joules in found.items() if each == name}


def test_energy_of_the_last_minutes_is_the_watts_over_what_was_finished_in_them():
    """700 W over 100 s are 70,000 J, for 5,000 tokens of 20 requests."""
    watched = Watched(Pue(1.1, "measured"))
    watched.at(0, tokens=1_000, finished=10)
    watched.at(100, tokens=6_000, finished=30)
    node_w = 0.25 * 1600 + 1.22 * 700
    assert watched.recent("span_seconds") == {"": 100}
    assert watched.recent("token_energy_joules") == pytest.approx(
        {"gpu": 70_000 / 5_000, "node_modelled": 100 * node_w / 5_000, "node_modelled x PUE": 110 * node_w / 5_000}
    )
    assert watched.recent("query_energy_joules") == pytest.approx(
        {"gpu": 70_000 / 20, "node_modelled": 100 * node_w / 20, "node_modelled x PUE": 110 * node_w / 20}
    )


def test_what_is_older_than_five_minutes_is_forgotten():
    watched = Watched()
    for t_s, finished in ((0, 0), (200, 50), (400, 60), (500, 64)):
        watched.at(t_s, tokens=100 * finished, finished=finished)
    assert watched.recent("span_seconds") == {"": 300}
    assert watched.recent("query_energy_joules")["gpu"] == pytest.approx(300 * 700 / 14)


def test_a_restart_within_the_minutes_neither_loses_nor_invents_requests():
    """20 before it and 6 after it, over 200 s in which the server was away for 90."""
    watched = Watched()
    watched.at(0, tokens=5_000, finished=100)
    watched.at(100, tokens=7_000, finished=120)
    watched.at(150)
    assert watched.recent("query_energy_joules") == {}
    watched.at(200, tokens=600, finished=6)
    assert watched.recent("query_energy_joules")["gpu"] == pytest.approx(200 * 700 / 26)
    assert watched.recent("token_energy_joules")["gpu"] == pytest.approx(200 * 700 / 2_600)


def test_what_is_not_known_of_the_last_minutes_is_left_out_and_never_0():
    watched = Watched()
    watched.at(0, tokens=5_000, finished=100)
    assert watched.recent("span_seconds") == {}
    watched.at(10, tokens=5_000, finished=100)
    assert watched.recent("token_energy_joules") == watched.recent("query_energy_joules") == {}
    watched.at(20, tokens=5_400, finished=100)
    assert watched.recent("token_energy_joules")["gpu"] == pytest.approx(20 * 700 / 400)
    assert watched.recent("query_energy_joules") == {}
    watched.at(30, tokens=5_400, finished=101, lost=True)
    assert watched.recent("token_energy_joules") == watched.recent("query_energy_joules") == {}
    watched.at(40, tokens=5_400)
    assert watched.recent("token_energy_joules")["gpu"] == pytest.approx(40 * 700 / 400)
    assert watched.recent("query_energy_joules") == {}


def test_a_device_that_is_first_read_after_the_servers_has_its_minutes_from_then_on():
    watched = Watched()
    watched.collector.servers_scraped([ServerRow(0, 0, 0, ServerCounters(generation_tok=0.0, finished_requests=0.0))])
    watched.at(10, tokens=900, finished=9)
    watched.at(30, tokens=1_000, finished=10)
    assert watched.recent("span_seconds") == {"": 20}
    assert watched.recent("query_energy_joules")["gpu"] == pytest.approx(20 * 700)
