"""The expressions of the dashboard and of the rules, as Prometheus is asked them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.paths import ROOT
from tests.prometheus.real_prometheus import RULES

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "inference-energy.json"
OLDER_NAMES = frozenset({"vllm:time_per_output_token_seconds_bucket"})
"""What vLLM up to 0.10.1 exports in place of a name of today."""
_NAME = re.compile(r"\b(?:harness_\w+|vllm:\w+|(?:instance|device|device_cause|cell|client|server):harness_[\w:]+)")
_COMPARISON = re.compile(r"^(?P<left>.+?) (?:==|>) (?P<right>[\d.]+)$", re.DOTALL)


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def filled(expr: str) -> str:
    """Return an expression with the dashboard's variables at All."""
    return expr.replace("$instance", ".*").replace("$vllm", ".*")


def panel_expressions() -> list[tuple[str, str, str]]:
    """Return title, unit and expression of every query of every panel."""
    return [
        (panel["title"], panel["fieldConfig"]["defaults"]["unit"], filled(target["expr"]))
        for panel in panels()
        for target in panel["targets"]
    ]


def rules(kind: str) -> list[dict[str, Any]]:
    """Return all rules of a kind: record or alert."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def compared(expr: str) -> str:
    """Return what an alert compares with its limit, the last thing in it."""
    found = _COMPARISON.match(expr.strip())
    assert found, f"an alert is written as EXPRESSION > NUMBER: {expr}"
    return found["left"]


def names(expr: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(_NAME.findall(expr))
