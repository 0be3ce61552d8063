"""Power sensors of the Linux hwmon class: the ACPI power meter of a node, or its power supplies."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import ConfigError, NodeError
from harness.power.base import DeviceIdentity, DeviceSample

HWMON = Path("/sys/class/hwmon")
NODE_METER = "power_meter"
"""The hwmon name of the ACPI power meter: the one sensor that is a whole node's by its definition."""

_INPUT, _OUTPUT = re.compile(r"pin\d*"), re.compile(r"pout\d*")
"""Labels of what PMBus supplies draw and of what they deliver."""
_CHANNEL = re.compile(r"power(\d+)_(?:average|input)")
_PER_MICRO = 1e-6


@dataclass(frozen=True)
class _Channel:
    """One power channel; ``label`` is empty where the driver gives none."""

    chip: str
    label: str
    number: str
    folder: Path

    @property
    def identity(self) -> DeviceIdentity:
        """Return the channel as a device; the chip's number keeps two alike power supplies apart."""
        name = "/".join(filter(None, (self.chip, self.label)))
        return DeviceIdentity(uuid=f"{self.folder.name}:{name}:power{self.number}", name=f"hwmon {name}")

    @property
    def averages(self) -> bool:
        """Return whether the driver averages."""
        return (self.folder / f"power{self.number}_average").is_file()

    def read(self) -> DeviceSample:
        """Read power, and energy where the chip counts it; what fails is named in ``error``."""
        kind = "average" if self.averages else "input"
        errors: list[str] = []
        power_w = _read(self.folder / f"power{self.number}_{kind}", "power_w", errors)
        energy = self.folder / f"energy{self.number}_input"
        energy_j = _read(energy, "energy_j", errors) if energy.is_file() else None
        if power_w == 0:
            power_w = None
            errors.append("power_w: 0 W, which no machine that answers draws")
        return DeviceSample(self.identity.uuid, power_w=power_w, energy_j=energy_j, error="; ".join(errors) or None)

    def setting(self, name: str) -> str | None:
        """Return what the driver tells about the channel, or None."""
        try:
            return (self.folder / f"power{self.number}_{name}").read_text().strip()
        except OSError:
            return None


class HwmonSource:
    """The chosen hwmon channels, added up as one node; made by ``open_hwmon``."""

    name = "hwmon"
    boundary = "node"
    period_s = 1.0
    counter_lag_s = 0.0

    def __init__(self, channels: list[_Channel]) -> None:
        """Take over channels that ``open_hwmon`` has chosen."""
        self._channels = channels
        self.devices = tuple(channel.identity for channel in channels)
        intervals_s = [_interval_s(channel) for channel in channels if channel.averages]
        self.power_lag_s = max((interval_s or 0.0 for interval_s in intervals_s), default=0.0) / 2
        self.gain_rel_u: float | None = _gain_rel_u(channels)
        self.notes = tuple(self._notes(intervals_s))

    def _notes(self, intervals_s: list[float | None]) -> list[str]:
        notes = ["a node meter includes GPUs that this run does not use"]
        if any(channel.chip != NODE_METER for channel in self._channels):
            names = ", ".join(device.name for device in self.devices)
            notes.append(f"that {names} together carry the whole node is taken on the word of who chose them")
        if intervals_s:
            known = ", ".join("unknown" if value is None else f"{value:g} s" for value in intervals_s)
            notes.append(f"the driver averages over {known}")
        unknown = "the accuracy of the sensors is not stated, so it is unknown"
        stated = (
            ""
            if self.gain_rel_u is None
            else f"the driver states an accuracy of {self._channels[0].setting('accuracy')}"
        )
        return [*notes, stated or unknown]

    def read(self) -> tuple[DeviceSample, ...]:
        """Read every channel once, in the order of ``devices``."""
        return tuple(channel.read() for channel in self._channels)

    def close(self) -> None:
        """Nothing to release."""


def open_hwmon(choice: str = "", folder: Path = HWMON) -> HwmonSource:
    """Open the channels called ``NAME`` or ``NAME/LABEL`` (``*`` matches any text); with no choice, the ACPI meter.

    Channels of that name on several chips, such as two power supplies, are added up. Raises ``NodeError`` where
    nothing matches or a chosen sensor does not answer, and ``ConfigError`` where a choice is needed or what was chosen
    would count the same watts twice.
    """
    channels = _channels(folder)
    if not channels:
        raise NodeError(
            "This machine has no hwmon power sensor.", why=f"no power*_input or power*_average in {folder}",
            fix="load the driver of its meter (sudo modprobe acpi_power_meter), or use another meter",
        )  # fmt: skip
    listed = ", ".join(dict.fromkeys(channel.identity.name.removeprefix("hwmon ") for channel in channels))
    if not choice and not any(channel.chip == NODE_METER for channel in channels):
        raise ConfigError(
            "hwmon: which sensors carry the whole node cannot be told.", why=f"this machine has {listed}",
            fix="choose with hwmon:NAME or hwmon:NAME/LABEL",
        )  # fmt: skip
    name, _, label = (choice or NODE_METER).partition("/")
    chosen = [channel for channel in channels if channel.chip == name and fnmatchcase(channel.label, label or "*")]
    if not chosen:
        raise NodeError(f"There is no hwmon power sensor called {choice}.", why=f"this machine has {listed}")
    _refuse_overlap(chosen, bare=not label)
    for sample in (channel.read() for channel in chosen):
        if sample.power_w is None and sample.energy_j is None:
            raise NodeError(f"The hwmon sensor {sample.uuid} does not answer.", why=sample.error or "")
    return HwmonSource(chosen)


def _refuse_overlap(chosen: Sequence[_Channel], *, bare: bool) -> None:
    """Raise ``ConfigError`` for channels of one chip that may hold the same watts.

    That is what a supply draws beside what it delivers, and, chosen by the chip's name alone, any of its channels with
    labels of their own: one may be the sum of others.
    """
    for folder in dict.fromkeys(channel.folder for channel in chosen):
        labels = [channel.label for channel in chosen if channel.folder == folder]
        both = any(map(_INPUT.fullmatch, labels)) and any(map(_OUTPUT.fullmatch, labels))
        if both or (bare and len(set(labels)) > 1):
            chip = chosen[0].chip
            named = ", ".join(f"{chip}/{label}" for label in dict.fromkeys(filter(None, labels)))
            raise ConfigError(
                f"hwmon:{chip} would add up channels that may hold the same watts.",
                why="a supply's output comes out of its input" if both else "one may be the sum of others",
                fix=f"choose by label what carries the whole node, of {named}; * matches any text",
            )


def _channels(folder: Path) -> list[_Channel]:
    found = []
    for chip in sorted(folder.glob("hwmon*")):
        name = chip / "name"
        if not name.is_file():
            continue
        matches = (_CHANNEL.fullmatch(file.name) for file in chip.glob("power*"))
        for number in sorted({match[1] for match in matches if match}, key=int):
            label = chip / f"power{number}_label"
            text = label.read_text().strip() if label.is_file() else ""
            found.append(_Channel(name.read_text().strip(), text, number, chip))
    return found


def _read(file: Path, field: str, errors: list[str]) -> float | None:
    try:
        return int(file.read_text()) * _PER_MICRO
    except OSError as error:
        errors.append(f"{field}: {error.strerror or error}")
    except ValueError as error:
        errors.append(f"{field}: {error}")
    return None


def _interval_s(channel: _Channel) -> float | None:
    text = channel.setting("average_interval")
    return int(text) / 1e3 if text and text.isdigit() else None


def _gain_rel_u(channels: list[_Channel]) -> float | None:
    """Return the standard uncertainty of the accuracy the drivers state, None if one is silent."""
    worst = 0.0
    for channel in channels:
        accuracy = re.fullmatch(r"([\d.]+)\s*%", channel.setting("accuracy") or "")
        if accuracy is None:
            return None
        worst = max(worst, 1 - float(accuracy[1]) / 100)
    return worst / math.sqrt(3)
