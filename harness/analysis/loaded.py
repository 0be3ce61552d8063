"""What a cell's record says of its load: how the clients kept up, and which requests met the objective. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.analysis.celllog import CellLog
from harness.analysis.steady import Window
from harness.load.health import client_health, health_reasons
from harness.load.report import goodput


def load_fields(log: CellLog, window: Window, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``client`` and ``goodput`` of a cell over its window; ``None`` without a record or an objective."""
    limits = {"ttft_limit_s": config.get("slo_ttft_s"), "itl_limit_s": config.get("slo_itl_s")}
    asked = any(limit is not None for limit in limits.values())
    health = client_health(log.client, log.requests, window.start_s, window.end_s) if len(log.client) else None
    met = goodput(log.requests, window.start_s, window.end_s, **limits) if asked else None
    return {"client": None if health is None else asdict(health), "goodput": None if met is None else asdict(met)}


def client_reasons(log: CellLog, window: Window) -> tuple[str, ...]:
    """Return ``client_bound`` if the client may have set the pace; a run without a record of it is not judged."""
    if not len(log.client):
        return ()
    return health_reasons(client_health(log.client, log.requests, window.start_s, window.end_s))
