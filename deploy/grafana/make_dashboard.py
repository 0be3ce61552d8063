"""Write the Grafana dashboard from its panels: python -m deploy.grafana.make_dashboard

What every panel has in common stands here once. The result is dashboards/inference-energy.json beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.grafana.panels import HARNESS, PANELS, Panel, Row

DASHBOARD = Path(__file__).with_name("dashboards") / "inference-energy.json"
UID = "inference-energy"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": UID,
        "title": "Inference energy: measured against predicted",
        "description": "Joules and watts carry their source and boundary in every legend.",
        "tags": ["energy", "llm", "vllm"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "panels": list(_placed()),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
    named = (("instance", "Harness", "harness_power_watts"), ("vllm", "vLLM", "vllm:num_requests_running"))
    return [source, *(_instances(name, label, metric) for name, label, metric in named)]


def _instances(name: str, label: str, metric: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({metric}, instance)", "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _annotations() -> list[dict[str, Any]]:
    phases = {"expr": f"harness_phase{{{HARNESS}}} == 1", "titleFormat": "{{phase}}", "tagKeys": "phase,instance"}
    alerts = {
        "expr": 'ALERTS{alertstate="firing", alertname=~"Harness.*"}',
        "titleFormat": "{{alertname}}",
        "tagKeys": "severity,device,instance",
    }
    common = {"datasource": DATASOURCE, "enable": True, "step": "5s"}
    return [
        {"name": "Phases of the run", "iconColor": "blue", **common, **phases},
        {"name": "Alerts", "iconColor": "red", **common, **alerts},
    ]


def _placed() -> Iterator[dict[str, Any]]:
    """Yield the panels from left to right and top to bottom."""
    x = y = tallest = 0
    for number, panel in enumerate(PANELS, start=1):
        width, height = (24, 1) if isinstance(panel, Row) else (panel.width, panel.height)
        if x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        place = {"id": number, "title": panel.title, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        yield place | ({"type": "row", "collapsed": False, "panels": []} if isinstance(panel, Row) else _body(panel))
        x, tallest = x + width, max(tallest, height)


def _body(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "noValue": "no data"}
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.kind == "timeseries":
        defaults["custom"] = {"lineWidth": 2, "fillOpacity": 0, "spanNulls": False, "showPoints": "never"}
    return {
        "type": panel.kind,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": defaults,
            "overrides": list(panel.overrides),
        },
        "options": panel.options or _legend(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": panel.now,
                "range": not panel.now,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _legend(kind: str) -> dict[str, Any]:
    if kind != "timeseries":
        return {}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
        "tooltip": {"mode": "multi"},
    }


def as_text() -> str:
    """Return the dashboard as the text of its file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(as_text())
