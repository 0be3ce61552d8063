import asyncio
import socket
import urllib.request

import pytest

from harness import node_exporter
from harness.errors import ConfigError, NodeError
from harness.live.state import LiveState
from harness.node_exporter import ExporterOptions, News, run_exporter
from harness.power.base import GPU_LOST, PowerRow
from harness.server import monitor
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow

ANY_PORT = "127.0.0.1:0"


def export(**options):
    """Export for a moment, and return what was said and what was served at the end of it."""
    said, served = [], []

    def say(line):
        said.append(line)
        if line.startswith("metrics: "):
            asyncio.get_running_loop().call_later(0.4, lambda: asyncio.ensure_future(scrape(line.split()[1])))

    async def scrape(url):
        served.append(await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode()))

    asyncio.run(run_exporter(ExporterOptions(metrics_address=ANY_PORT, seconds=1.0, **options), say))
    return said, served[0]


def test_simulated_power_is_exported_without_a_server_and_says_that_it_is_invented():
    said, text = export(power="simulated", pue=1.3)
    assert any("power is simulated" in line for line in said)
    assert 'kind="simulated"' in text
    assert 'harness_pue_ratio{source="measured"} 1.3' in text
    assert 'harness_node_energy_joules_total{boundary="node_modelled",node_profile="simulated-node"' in text
    assert "harness_generated_tokens_total" not in text


def trace(folder, boundary):
    header = "t_s,uuid,power_w,energy_j,boundary,source\n"
    path = folder / f"{boundary}.csv"
    path.write_text(header + "".join(f"{t / 10},{boundary}-0,{700},,{boundary},ipmi\n" for t in range(200)))
    return path


def test_a_meter_alone_is_exported_and_no_node_is_modelled(tmp_path):
    said, text = export(power="none", node_meters=(f"replay:{trace(tmp_path, 'node')}",))
    assert any("node watts are not modelled" in line for line in said)
    assert 'boundary="node",device="node-0",source="replay of ipmi and ' in text
    assert "node_modelled" not in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"power": "none"}, ConfigError, "nothing to export"),
        ({"power": "magic"}, ConfigError, "no power source"),
        ({"power": "simulated", "urls": ("http://me:word@127.0.0.1:8000",)}, ConfigError, "user or a password"),
        ({"power": "replay:"}, ConfigError, "no power source"),
        ({"power": "simulated", "gpus": ("0",)}, ConfigError, "--gpu"),
        ({"power": "none", "node_meters": ("ipmi", "ipmi")}, ConfigError, "named twice"),
        ({"power": "simulated", "node_profile": "hgx-h1000"}, NodeError, "hgx-h100"),
        ({"power": "auto"}, NodeError, "--power none --node-meter"),
        ({"power": "simulated", "metrics_address": "nowhere"}, ConfigError, "HOST:PORT"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(monkeypatch, options, error, words):
    monkeypatch.setattr(node_exporter, "nvml_unavailable_reason", lambda: "no driver")
    with pytest.raises(error, match=words):
        asyncio.run(run_exporter(ExporterOptions(**{"metrics_address": ANY_PORT, **options}), print))


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot serve metrics"):
            asyncio.run(run_exporter(ExporterOptions(metrics_address=address, power="simulated"), print))


def test_an_exporter_whose_scraping_ended_does_not_go_on_with_old_counters(monkeypatch):
    def broken(url, number):
        raise ZeroDivisionError(f"{number} of {url}")

    monkeypatch.setattr(monitor, "scrape", broken)
    options = ExporterOptions(metrics_address=ANY_PORT, power="simulated", urls=("http://127.0.0.1:1",), seconds=20.0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_exporter(options, print))


# News ---------------------------------------------------------------------------------------------------


def power(power_w, error=None):
    return PowerRow(
        "GPU-7", power_w=power_w, error=error, t_mono_s=0.0, t_wall_s=0.0, late_s=0.0, source="nvml", boundary="gpu"
    )


def scraped(tokens, error=None):
    return ServerRow(0.0, 0.0, 0, ServerCounters(generation_tok=tokens), error)


@pytest.fixture
def news():
    """Return what is news after each change of a live state."""
    live, told = LiveState(), News(("http://here",))

    def after(*, power=None, server=None):
        if power is not None:
            live.power_read([power])
        if server is not None:
            live.servers_scraped([server])
        return list(told.of(live))

    return after


def test_that_all_is_well_is_no_news(news):
    assert news() == []
    assert news(power=power(300), server=scraped(10)) == []
    assert news(power=power(310), server=scraped(20)) == []


def test_a_lost_gpu_is_told_once_and_that_it_is_back_too(news):
    assert news(power=power(300)) == []
    assert news(power=power(None, GPU_LOST)) == ["GPU-7 is lost: its power is no longer known; see dmesg"]
    assert news(power=power(None, GPU_LOST)) == []
    assert news(power=power(300)) == ["GPU-7 is read again"]


def test_a_sensor_that_fails_is_told_with_its_reason(news):
    (line,) = news(power=power(None, "power_w: TIMEOUT"))
    assert line == "GPU-7 tells neither power nor energy: power_w: TIMEOUT"


def test_a_server_that_goes_comes_back_and_was_restarted_is_told(news):
    news(server=scraped(1000))
    assert news(server=scraped(None, "URLError: refused")) == ["server http://here is away: URLError: refused"]
    assert news(server=scraped(None, "URLError: refused")) == []
    assert news(server=scraped(3)) == [
        "server http://here answers again",
        "server http://here was restarted: its counters began again from zero",
    ]
    assert news(server=scraped(5)) == []
