"""The names by which meters are asked for, apart from what opens them so that checking one loads nothing."""

from __future__ import annotations

METERS = ("redfish", "ipmi", "hwmon", "rapl", "replay")
METERS_HELP = "redfish, redfish:URL, ipmi, hwmon, hwmon:NAME, hwmon:NAME/LABEL, rapl (CPU and DRAM only) or replay:FILE"


def check_meter(text: str) -> str:
    """Return ``text`` if it names a meter; raises ValueError otherwise, without opening anything."""
    kind, _, detail = text.partition(":")
    if kind not in METERS or (kind == "replay" and not detail) or (kind in ("ipmi", "rapl") and detail):
        raise ValueError(f"{text!r} is no meter: give {METERS_HELP}")
    return text


def covers_node(text: str) -> bool:
    """Tell whether the meter of this name covers a node; RAPL covers processors only."""
    return text.partition(":")[0] != "rapl"


def is_replayed(text: str) -> bool:
    """Tell whether a power source of this name is a recording."""
    return text.partition(":")[0] == "replay"
