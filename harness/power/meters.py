"""Open a meter by the name a user gives it."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError
from harness.power.combined import Meter
from harness.power.hwmon import open_hwmon
from harness.power.ipmi import open_ipmi
from harness.power.meter_names import check_meter
from harness.power.rapl import open_rapl
from harness.power.replay import ReplaySource, load_recording


def open_meter(text: str) -> Meter:
    """Open a meter given as in ``meter_names.METERS_HELP``; raises ``ConfigError`` or ``NodeError``."""
    try:
        kind, _, detail = check_meter(text).partition(":")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if kind == "redfish":
        from harness.power.redfish import open_redfish  # its library takes half a second to load

        return open_redfish(detail)
    if kind == "hwmon":
        return open_hwmon(detail)
    if kind == "replay":
        return ReplaySource(load_recording(Path(detail), boundary="node"))
    return open_ipmi() if kind == "ipmi" else open_rapl()
