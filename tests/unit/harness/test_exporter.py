import re
import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from estimator.nodes import load_profile
from harness.errors import ConfigError
from harness.exporter import MetricsServer, RunCollector, parse_address
from harness.live import PHASES, LiveState, QueryFigure
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


@pytest.fixture
def scrape():
    """Serve a live state, and return every sample of one scrape over HTTP as {(name, labels): value}."""
    servers = []

    def families(live, profile=None):
        server = MetricsServer(RunCollector(live, "run-1", profile, 0.25), "127.0.0.1:0")
        servers.append(server)
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))

    yield families
    for server in servers:
        server.close()


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def test_each_device_exports_watts_and_joules_since_the_run_began(scrape):
    found = samples(scrape(live_run()))
    labels = {"device": "b", "source": "nvml", "boundary": "gpu"}
    assert value(found, "harness_power_watts", **labels) == 400
    assert value(found, "harness_energy_joules_total", **labels) == 400
    assert value(found, "harness_gpu_utilization_ratio", **labels) == 0.5
    assert value(found, "harness_gpu_temperature_celsius", **labels) == 60


def test_node_watts_are_modelled_from_all_devices_and_say_so(scrape):
    found = samples(scrape(live_run(), load_profile("hgx-h100")))
    labels = {"source": "nvml", "boundary": "node_modelled", "node_profile": "hgx-h100"}
    assert value(found, "harness_node_power_watts", **labels) == pytest.approx(0.25 * 1600 + 1.22 * 700)


def test_node_watts_are_left_out_while_a_device_does_not_answer(scrape):
    live = live_run()
    live.power_read([power(2, "a", None, None)])
    found = samples(scrape(live, load_profile("hgx-h100")))
    assert not [name for name, _ in found if name == "harness_node_power_watts"]
    watts = [labels for name, labels in found if name == "harness_power_watts"]
    assert [dict(labels)["device"] for labels in watts] == ["b"]


def test_tokens_and_requests_are_counted_since_the_run_began(scrape):
    found = samples(scrape(live_run()))
    assert value(found, "harness_generated_tokens_total", server="0") == 1_000
    assert value(found, "harness_prompt_tokens_total", server="0") == 500
    assert value(found, "harness_requests_running", server="0") == 8
    assert value(found, "harness_requests_waiting", server="0") == 2
    assert value(found, "harness_kv_cache_usage_ratio", server="0") == pytest.approx(0.7)
    assert value(found, "harness_requests_total", outcome="completed") == 1
    assert value(found, "harness_requests_total", outcome="error") == 0
    assert value(found, "harness_power_samples_missed_total") == 3


def test_energy_per_query_is_exported_in_joules(scrape):
    found = samples(scrape(live_run()))
    labels = {"cell": "1x", "kind": "measured", "stat": "mean", "source": "nvml", "boundary": "node_modelled x PUE"}
    assert value(found, "harness_query_energy_joules", **labels) == 0.5 * 3_600


def test_exactly_one_phase_is_on(scrape):
    found = samples(scrape(live_run()))
    phases = {dict(labels)["phase"]: on for (name, labels), on in found.items() if name == "harness_phase"}
    assert phases == {phase: float(phase == "measure") for phase in PHASES}
    assert value(found, "harness_cell_info", cell="1x") == 1


def test_every_metric_follows_the_conventions(scrape):
    families = scrape(live_run(), load_profile("hgx-h100"))
    assert len(families) > 10
    for family in families:
        assert family.documentation
        assert re.fullmatch(r"harness_[a-z_]+", family.name)
        assert family.type in ("gauge", "counter")
        assert not re.search(r"_(kw|wh|mj|ms|percent|pct)(_|$)", family.name)
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)


@pytest.mark.parametrize("source", ["nvml", "simulated"])
def test_everything_with_joules_or_watts_carries_its_source_and_boundary(scrape, source):
    families = scrape(live_run(source), load_profile("hgx-h100"))
    energies = [sample for family in families for sample in family.samples if re.search("joules|watts", sample.name)]
    assert len(energies) >= 6
    assert all(sample.labels["source"] == source and sample.labels["boundary"] for sample in energies)


def test_a_run_that_has_measured_nothing_yet_can_be_scraped(scrape):
    found = samples(scrape(LiveState()))
    assert value(found, "harness_phase", phase="plan") == 1
    assert not [name for name, _ in found if "joules" in name]


def test_a_server_that_failed_to_answer_exports_no_old_figures(scrape):
    live = live_run()
    live.servers_scraped([ServerRow(1, 1, 0, ServerCounters(), "URLError: refused")])
    found = samples(scrape(live))
    assert not [name for name, _ in found if name.startswith(("harness_generated", "harness_requests_running"))]


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:9477", ("127.0.0.1", 9477)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address, parsed):
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", "9477", ":9477", "localhost", "localhost:", "localhost:x", "localhost:65536"])
def test_anything_else_is_refused_with_an_example(address):
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9477"):
        parse_address(address)


def test_a_port_in_use_is_refused_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot serve metrics on {address}") as error:
            MetricsServer(RunCollector(LiveState(), "r", None, 1.0), address)
    assert "in use" in error.value.why
    assert "--metrics-address" in error.value.fix


def test_a_closed_server_frees_its_port():
    server = MetricsServer(RunCollector(LiveState(), "r", None, 1.0), "127.0.0.1:0")
    port = int(server.url.split(":")[2].split("/")[0])
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
