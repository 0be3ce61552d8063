"""Node power by IPMI DCMI: the ``ipmitool`` command asks this machine's own management controller."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from harness.errors import NodeError
from harness.power.base import DeviceIdentity, DeviceSample

ARGV = ("ipmitool", "dcmi", "power", "reading")
TIMEOUT_S = 5.0

_READING = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts", re.IGNORECASE)
_STATE = re.compile(r"Power reading state is:\s*(\w+)", re.IGNORECASE)
_PERIODS = (
    (re.compile(r"Sampling period:\s*(\d+)\s*Seconds", re.IGNORECASE), 1.0),
    (re.compile(r"Statistics reporting time period:\s*(\d+)\s*milliseconds", re.IGNORECASE), 1e-3),
)


class IpmiSource:
    """The node as its management controller meters it; made by ``open_ipmi``."""

    name = "ipmi"
    boundary = "node"
    gain_rel_u: float | None = None
    power_lag_s = 0.0
    period_s = 2.0
    counter_lag_s = 0.0

    def __init__(self, executable: str, statistics_s: float | None) -> None:
        """Ask with ``executable``, which ``open_ipmi`` has found to answer."""
        self._argv = (executable, *ARGV[1:])
        self.devices: tuple[DeviceIdentity, ...] = (DeviceIdentity(uuid="ipmi:dcmi", name="IPMI DCMI power"),)
        period = "unknown" if statistics_s is None else f"{statistics_s:g} s"
        self.notes: tuple[str, ...] = (
            "a node meter includes GPUs that this run does not use",
            f"IPMI DCMI instantaneous power, steps of 1 W, asked every {self.period_s:g} s; statistics period {period}",
            "how often the controller refreshes the reading and how accurate it is are not stated, so they are unknown",
        )

    def read(self) -> tuple[DeviceSample, ...]:
        """Ask once; what goes wrong is named in ``error``."""
        try:
            power_w, _ = _ask(self._argv)
        except NodeError as error:
            return (DeviceSample("ipmi:dcmi", error=f"power_w: {error.why or error.what}"),)
        return (DeviceSample("ipmi:dcmi", power_w=power_w),)

    def close(self) -> None:
        """Nothing to release."""


def open_ipmi() -> IpmiSource:
    """Open the controller; raises ``NodeError`` without ipmitool, without rights or without DCMI power."""
    executable = shutil.which(ARGV[0])
    if executable is None:
        raise NodeError(
            "ipmitool was not found.", why="the IPMI power meter is read through it",
            fix="install it (sudo apt-get install ipmitool), or use another meter",
        )  # fmt: skip
    _, statistics_s = _ask((executable, *ARGV[1:]))
    return IpmiSource(executable, statistics_s)


def parse_reading(text: str) -> tuple[float, float | None]:
    """Return the instantaneous power in W and the period of its statistics in s (None if not given).

    Raises ValueError where there is no reading, where it is switched off, and for 0 W, which is no reading.

    >>> parse_reading("Instantaneous power reading: 220 Watts\\nPower reading state is: activated")
    (220.0, None)
    """
    state, reading = _STATE.search(text), _READING.search(text)
    if state and state[1].lower() != "activated":
        raise ValueError(f"the power reading is {state[1]}")
    if reading is None:
        raise ValueError("the answer has no 'Instantaneous power reading'")
    if int(reading[1]) == 0:
        raise ValueError("the reading is 0 W, which no machine that answers draws")
    periods = (int(match[1]) * unit_s for pattern, unit_s in _PERIODS if (match := pattern.search(text)))
    return float(reading[1]), next(periods, None)


def _ask(argv: tuple[str, ...]) -> tuple[float, float | None]:
    command = " ".join(ARGV)
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"{command} did not answer.", why=f"no answer within {TIMEOUT_S:g} s") from error
    except OSError as error:
        raise NodeError(f"{command} cannot be run.", why=error.strerror or str(error)) from error
    if answer.returncode != 0:
        raise NodeError(
            f"{command} failed.", why=answer.stderr.strip() or f"exit status {answer.returncode}",
            fix="run as root or with access to /dev/ipmi0 (sudo modprobe ipmi_devintf ipmi_si)",
        )  # fmt: skip
    try:
        return parse_reading(answer.stdout)
    except ValueError as error:
        raise NodeError(
            f"{command} gives no power.", why=str(error), fix="not every controller has DCMI power: use another meter"
        ) from error
