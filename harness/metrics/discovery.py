"""Name the servers to Prometheus, in the form of its HTTP service discovery."""

from __future__ import annotations

from typing import TypedDict
from urllib.parse import urlsplit

from harness.live.state import LiveState

PATH = "/servers"


class TargetGroup(TypedDict):
    """What Prometheus takes for one server: HOST:PORT, and the labels of all that it scrapes there."""

    targets: list[str]
    labels: dict[str, str]


def target_groups(live: LiveState) -> list[TargetGroup]:
    """Return a group for each server in use; none before servers are ready and once the run is done.

    When a run goes, Prometheus keeps what it was told last: the list is empty as soon as the load has ended.
    """
    with live.lock:
        return [] if live.phase == "done" else [_group(url) for url in live.server_urls]


def without_user(url: str) -> str:
    """Return an address without the user and password it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _group(url: str) -> TargetGroup:
    """Return labels that follow from the address alone: a server named by two is then one target, scraped once."""
    address = without_user(url)
    parts = urlsplit(address)
    labels = {"url": address, "__scheme__": parts.scheme, "__metrics_path__": f"{parts.path}/metrics"}
    return {"targets": [parts.netloc], "labels": labels}
