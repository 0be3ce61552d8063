import pytest

from harness.live.state import LiveState
from harness.metrics.discovery import target_groups, without_user


def groups(*urls):
    return target_groups(LiveState(server_urls=urls))


@pytest.mark.parametrize(
    ("url", "target", "scheme", "path"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "http", "/metrics"),
        ("http://[::1]:8000", "[::1]:8000", "http", "/metrics"),
        ("https://gpu-node:8443", "gpu-node:8443", "https", "/metrics"),
        ("https://gateway/models/a", "gateway", "https", "/models/a/metrics"),
    ],
)
def test_a_server_is_scraped_where_the_harness_itself_reads_its_metrics(url, target, scheme, path):
    labels = {"url": url, "__scheme__": scheme, "__metrics_path__": path}
    assert groups(url) == [{"targets": [target], "labels": labels}]


def test_a_server_has_the_same_labels_whoever_names_it_and_in_whichever_place():
    a, b = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
    assert groups(a, b) == groups(a) + groups(b) == groups(b, a)[::-1]


def test_nothing_is_to_be_scraped_before_servers_are_ready_or_once_the_run_is_done():
    live = LiveState()
    assert target_groups(live) == []
    live.server_urls = ("http://127.0.0.1:8000",)
    live.enter("measure", "1x")
    assert len(target_groups(live)) == 1
    live.enter("done", "")
    assert target_groups(live) == []


def test_a_user_or_password_in_an_address_is_told_to_nobody():
    assert groups("http://user:word@127.0.0.1:8000/x") == groups("http://127.0.0.1:8000/x")
    assert without_user("http://user:word@127.0.0.1:8000/x") == "http://127.0.0.1:8000/x"
