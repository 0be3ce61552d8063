"""A recorded power trace as a source: a run folder's power table or a CSV, played back in real time or faster."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import ConfigError
from harness.power.base import DeviceIdentity, DeviceSample
from results.store import RunReader, StoredRunError

_COLUMNS = ("t_s", "uuid", "power_w", "energy_j")
_OPTIONAL = ("boundary", "source")
ENDED = "the recording has ended"


@dataclass(frozen=True)
class Recording:
    """Readings of one boundary by device: times from the recording's start, and the samples as they were."""

    origin: str
    sources: tuple[str, ...]
    boundary: str
    devices: tuple[DeviceIdentity, ...]
    t_s: dict[str, list[float]]
    samples: dict[str, list[DeviceSample]]
    end_s: float
    gain_rel_u: float | None
    power_lag_s: float


class ReplaySource:
    """Plays a recording back from now on, at ``speed`` times its pace; labelled ``replay of ...``.

    Each reading is held until the next, so a replay never invents one; after the end every reading is an error.
    """

    period_s = 0.5
    counter_lag_s = 0.0

    def __init__(
        self, recording: Recording, *, speed: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the playback now."""
        self._recording, self._speed, self._clock = recording, speed, clock
        self._start_s = clock()
        self.name = f"replay of {' and '.join((*recording.sources, recording.origin))}"
        self.boundary = recording.boundary
        self.gain_rel_u: float | None = recording.gain_rel_u
        self.power_lag_s = recording.power_lag_s / speed
        self.devices = recording.devices
        self.notes: tuple[str, ...] = (
            f"watts and joules are replayed from {recording.origin}, not measured now; it lasts {recording.end_s:g} s",
            *(() if speed == 1 else (f"replayed at {speed:g} times its pace",)),
        )

    def read(self) -> tuple[DeviceSample, ...]:
        """Return each device's latest reading of the recording."""
        at_s = (self._clock() - self._start_s) * self._speed
        return tuple(self._held(device.uuid, at_s) for device in self.devices)

    def _held(self, uuid: str, at_s: float) -> DeviceSample:
        if at_s > self._recording.end_s:
            return DeviceSample(uuid, error=ENDED)
        position = bisect_right(self._recording.t_s[uuid], at_s)
        if position == 0:
            return DeviceSample(uuid, error="the recording of this device has not begun")
        return self._recording.samples[uuid][position - 1]

    def close(self) -> None:
        """Nothing to release."""


def load_recording(path: Path, boundary: str = "gpu") -> Recording:
    """Read the readings at one boundary from a run folder or a CSV file.

    The CSV has the columns t_s, uuid, power_w, energy_j and may have boundary (without it: ``gpu``) and source;
    times are in seconds, and what is not known is left empty. Raises ``ConfigError`` with the offending row or column.
    """
    table, gain_rel_u, power_lag_s = _run_table(path, boundary) if path.is_dir() else (_csv_table(path), None, 0.0)
    chosen = table[table["boundary"] == boundary].sort_values("t_s", kind="stable")
    if chosen.empty:
        has = ", ".join(sorted(table["boundary"].unique())) or "nothing"
        raise ConfigError(f"{path} has no readings at the boundary {boundary}.", why=f"it has {has}")
    # One time axis for all boundaries of a file, so that a GPU trace and a node trace stay side by side.
    start_s, end_s = float(table["t_s"].min()), float(table["t_s"].max())
    by_device = {str(uuid): rows for uuid, rows in chosen.groupby("uuid", sort=False)}
    return Recording(
        origin=path.name or str(path),
        sources=tuple(sorted({str(source) for source in chosen["source"] if isinstance(source, str) and source})),
        boundary=boundary,
        devices=tuple(DeviceIdentity(uuid=uuid, name=f"replayed {uuid}") for uuid in by_device),
        t_s={uuid: [float(t_s) - start_s for t_s in rows["t_s"]] for uuid, rows in by_device.items()},
        samples={uuid: [_sample(uuid, row) for row in rows.to_dict("records")] for uuid, rows in by_device.items()},
        end_s=end_s - start_s,
        gain_rel_u=gain_rel_u,
        power_lag_s=power_lag_s,
    )


def _sample(uuid: str, row: dict[Any, Any]) -> DeviceSample:
    power_w, energy_j, error = (row.get(name) for name in ("power_w", "energy_j", "error"))
    known = error if isinstance(error, str) else None
    power_w, energy_j = (None if pd.isna(value) else float(value) for value in (power_w, energy_j))
    if power_w is None and energy_j is None and known is None:
        known = "the recording has no reading here"
    return DeviceSample(uuid, power_w=power_w, energy_j=energy_j, error=known)


def _run_table(path: Path, boundary: str) -> tuple[pd.DataFrame, float | None, float]:
    try:
        reader = RunReader(path)
        table, manifest = reader.table("power").rename(columns={"t_mono_s": "t_s"}), reader.json("manifest.json")
    except StoredRunError as error:
        raise ConfigError(f"{path} cannot be replayed.", why=str(error), fix="give a run folder or a CSV") from error
    described = [manifest.get("power", {}), *manifest.get("meters", [])]
    power: dict[str, Any] = next((source for source in described if source.get("boundary") == boundary), {})
    return table, power.get("gain_rel_u"), float(power.get("power_lag_s", 0.0))


def _csv_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"uuid": str, "boundary": str, "source": str})
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be replayed.", why=str(error), fix=f"its columns: {', '.join(_COLUMNS)}"
        ) from error
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise ConfigError(
            f"{path} cannot be replayed.", why=f"it has no column {', '.join(missing)}",
            fix=f"the columns are {', '.join(_COLUMNS)}, and {' and '.join(_OPTIONAL)} if wanted",
        )  # fmt: skip
    for name in ("t_s", "power_w", "energy_j"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table.index[(numbers.isna() & table[name].notna()) | (numbers < 0)]
        if name == "t_s":
            wrong = table.index[numbers.isna()]
        if len(wrong):
            raise ConfigError(f"{path}, line {wrong[0] + 2}: {name} = {table[name][wrong[0]]!r} cannot be used.")
        table[name] = numbers
    if table["uuid"].isna().any():
        raise ConfigError(f"{path}, line {table.index[table['uuid'].isna()][0] + 2}: uuid is missing.")
    table["boundary"] = table["boundary"].fillna("gpu") if "boundary" in table else "gpu"
    table["source"] = table.get("source")
    return table
