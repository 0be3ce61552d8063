"""Energy of CPU packages and their DRAM, by the counters of RAPL (Linux powercap).

They cover the processors alone, so they are a boundary of their own, ``cpu_dram``, and are never added to the
reading of a node, which holds them already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NodeError
from harness.power.base import DeviceIdentity, DeviceSample

POWERCAP = Path("/sys/class/powercap")
MAX_DOMAIN_W = 2_000.0
"""No package or its memory draws more, so a backward step that would mean more was a reset, not a wrap."""

_J_PER_UJ = 1e-6


@dataclass
class _Domain:
    """One counter, carried on past its wraps."""

    identity: DeviceIdentity
    counter: Path
    range_uj: int
    last_uj: int
    last_s: float
    total_uj: int

    def read(self, now_s: float) -> DeviceSample:
        """Read the counter; a reset is passed on as a step back, for the rules that judge counters."""
        try:
            count_uj = _integer(self.counter)
        except (OSError, ValueError) as error:
            return DeviceSample(self.identity.uuid, error=f"energy_j: {_cause(error)}")
        step_uj = count_uj - self.last_uj
        if step_uj < 0:
            wrapped_uj = step_uj + self.range_uj
            if wrapped_uj * _J_PER_UJ <= MAX_DOMAIN_W * (now_s - self.last_s):
                step_uj = wrapped_uj
        self.last_uj, self.last_s, self.total_uj = count_uj, now_s, self.total_uj + step_uj
        return DeviceSample(self.identity.uuid, energy_j=self.total_uj * _J_PER_UJ)


class RaplSource:
    """Every CPU package and DRAM domain of this machine; made by ``open_rapl``. It has counters and no power."""

    name = "rapl"
    boundary = "cpu_dram"
    gain_rel_u: float | None = None
    power_lag_s = 0.0
    period_s = 0.5
    counter_lag_s = 0.0

    def __init__(self, domains: list[_Domain], clock: Callable[[], float]) -> None:
        """Take over domains that ``open_rapl`` has found readable."""
        self._domains, self._clock = domains, clock
        self.devices = tuple(domain.identity for domain in domains)
        dram = any(domain.identity.uuid.endswith("dram") for domain in domains)
        wrap_s = min(domain.range_uj for domain in domains) * _J_PER_UJ / MAX_DOMAIN_W
        self.notes: tuple[str, ...] = (
            "RAPL covers CPU packages and DRAM only: it is never added to a node reading",
            *(() if dram else ("this machine has no DRAM domain: memory is left out of cpu_dram",)),
            f"a counter's wrap is told from a reset if it is read at least every {wrap_s:.0f} s",
            "the counters update about every millisecond; their accuracy is not stated, so it is unknown",
        )

    def read(self) -> tuple[DeviceSample, ...]:
        """Read every domain once, in the order of ``devices``."""
        return tuple(domain.read(self._clock()) for domain in self._domains)

    def close(self) -> None:
        """Nothing to release."""


def open_rapl(powercap: Path = POWERCAP, clock: Callable[[], float] = time.monotonic) -> RaplSource:
    """Open the package and DRAM domains; raises ``NodeError`` where there are none or they may not be read.

    ``psys`` (which holds the packages), cores and uncore (parts of them) and the MMIO twins are left out.
    """
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_counted(zone)]
    if not zones:
        raise NodeError(
            "This machine has no RAPL counters.",
            why=f"no package domain lies in {powercap}",
            fix="load the driver (sudo modprobe intel_rapl_msr); virtual machines and containers often have none",
        )
    try:
        return RaplSource([_open_domain(zone, clock()) for zone in zones], clock)
    except PermissionError as error:
        raise NodeError(
            "The RAPL counters may not be read by this user.",
            why=f"{error.filename}: permission denied; Linux keeps them to root because they leak secrets",
            fix=f"sudo chmod a+r {powercap}/intel-rapl:*/energy_uj {powercap}/intel-rapl:*/*/energy_uj, or run as root",
        ) from error
    except (OSError, ValueError) as error:
        raise NodeError("The RAPL counters cannot be read.", why=str(error), fix="see dmesg for the driver") from error


def _is_counted(zone: Path) -> bool:
    name = _name(zone)
    return name.startswith("package-") or name == "dram"


def _open_domain(zone: Path, now_s: float) -> _Domain:
    parent = zone.parent / zone.name.rpartition(":")[0]
    name = f"{_name(parent)}/dram" if _name(zone) == "dram" else _name(zone)
    counter = zone / "energy_uj"
    count_uj = _integer(counter)
    identity = DeviceIdentity(uuid=f"rapl:{name}", name=f"RAPL {name}")
    return _Domain(identity, counter, _integer(zone / "max_energy_range_uj"), count_uj, now_s, count_uj)


def _name(zone: Path) -> str:
    file = zone / "name"
    return file.read_text().strip() if file.is_file() else ""


def _integer(file: Path) -> int:
    return int(file.read_text())


def _cause(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
