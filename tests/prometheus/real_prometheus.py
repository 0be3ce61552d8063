"""Start the real Prometheus with the shipped configuration, on other ports and at a quicker pace, and ask it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.waiting import until
from tests.paths import ROOT

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: object) -> Any:
        """Return the data of an answer of its API."""
        query = urllib.parse.urlencode({name: str(value) for name, value in parameters.items()})
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as answer:
            document = json.loads(answer.read())
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expr: str, at_s: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values of an instant query, as of now or of a time."""
        at_s = time.time() if at_s is None else at_s
        return [
            (series["metric"], float(series["value"][1]))
            for series in self.get("query", query=expr, time=at_s)["result"]
        ]

    def value(self, expr: str, at_s: float | None = None) -> float:
        """Return the value of an expression that has exactly one series."""
        ((_, value),) = self.query(expr, at_s)
        return value


def config(ports: Mapping[str, int], folder: Path) -> Path:
    """Write the shipped configuration with other ports (old to new) and a pace of a second."""

    def moved(address: str) -> str:
        return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: str(ports[port[0]]), address)

    document = yaml.safe_load(CONFIG.read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(CONFIG.parent / pattern) for pattern in document["rule_files"]]
    for job in document["scrape_configs"]:
        for group in job.get("static_configs", ()):
            group["targets"] = [moved(target) for target in group["targets"]]
        for asked in job.get("http_sd_configs", ()):
            asked |= {"url": moved(asked["url"]), "refresh_interval": "1s"}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def prometheus(configuration: Path, port: int, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus until the end of the block."""
    assert PROMETHEUS is not None
    argv = [
        PROMETHEUS, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            until(lambda: _ready(port, process), "Prometheus to be ready", 30)
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(timeout=20)


def _ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
