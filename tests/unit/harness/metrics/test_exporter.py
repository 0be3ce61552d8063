import json
import socket
import urllib.request

import pytest

from harness.errors import ConfigError
from harness.live.state import LiveState
from harness.metrics.collectors import RunCollector
from harness.metrics.exporter import MetricsServer


def served(live, address="127.0.0.1:0"):
    return MetricsServer(RunCollector(live, "r"), live, address)


def test_metrics_are_served_as_text_over_http():
    server = served(LiveState())
    with urllib.request.urlopen(server.url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b'harness_info{run="r"' in answer.read()
    server.close()


def test_servers_are_told_as_prometheus_asks_for_them_and_as_of_now():
    live = LiveState()
    server = served(live)

    def told():
        with urllib.request.urlopen(server.url.replace("/metrics", "/servers"), timeout=10) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            return json.loads(answer.read())

    assert told() == []
    live.server_urls = ("http://127.0.0.1:40001", "http://127.0.0.1:40002")
    assert [group["targets"] for group in told()] == [["127.0.0.1:40001"], ["127.0.0.1:40002"]]
    live.server_urls = ()
    assert told() == []
    server.close()


def test_an_address_that_is_none_is_refused_with_an_example():
    with pytest.raises(ConfigError, match=r"on .localhost:65536.: give HOST:PORT, such as 127\.0\.0\.1:9477"):
        served(LiveState(), "localhost:65536")


def test_a_port_in_use_is_refused_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot serve metrics on {address}") as error:
            served(LiveState(), address)
    assert "in use" in error.value.why
    assert "--metrics-address" in error.value.fix


def test_a_closed_server_frees_its_port():
    server = served(LiveState())
    port = int(server.url.split(":")[2].split("/")[0])
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
