"""Record a node at rest and under load: GPU power and its meter side by side, or read such a record from a file.

A record is a table with the columns t_s, gpu_w (all GPUs together), node_w and level (0 is idle; empty between
levels). The meter is read at its own pace, so that a row holds either power or both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from estimator.power.node_fit import Stretch
from harness.errors import ConfigError, MeasurementError
from harness.power.base import PowerRow, PowerSource
from harness.power.combined import Meter, SideBySide
from harness.signals import signals_to

COLUMNS = ("t_s", "gpu_w", "node_w", "level")
GPU_PERIOD_S = 0.2
_CHECK_S = 0.2
_END_S = 10.0

Hold = Callable[[int, "Loaded"], None]


@dataclass
class _Readings:
    """What the samplers hand over: time and the watts of all devices of a source, None where one is missing."""

    gpu: list[tuple[float, float | None]] = field(default_factory=list)
    node: list[tuple[float, float | None]] = field(default_factory=list)
    last_error: str | None = None

    def take(self, rows: Sequence[PowerRow]) -> None:
        """Take one round of one source."""
        watts = [row.power_w for row in rows]
        known = [value for value in watts if value is not None]
        total = sum(known) if len(known) == len(watts) else None
        self.last_error = next((row.error for row in rows if row.error), self.last_error)
        (self.node if rows[0].boundary == "node" else self.gpu).append((rows[0].t_mono_s, total))


class Loaded:
    """A level while it is held; ``check`` raises where its load has ended too early."""

    def __init__(self, level: int, process: subprocess.Popen[bytes] | None = None, signals: Sequence[int] = ()) -> None:
        """Watch ``process``, if the level has one, and the ``signals`` that arrive meanwhile."""
        self.level, self._process, self._signals = level, process, signals

    def check(self) -> None:
        """Raise ``MeasurementError`` if the load's command has exited, or a signal asks to end."""
        if self._signals:
            raise MeasurementError(
                f"The calibration was ended by {signal.Signals(self._signals[0]).name} at level {self.level}.",
                why="every level must be held for its whole time", fix="run it again",
            )  # fmt: skip
        if self._process is not None and self._process.poll() is not None:
            raise MeasurementError(
                f"The command that loads level {self.level} ended too early.",
                why=f"exit status {self._process.returncode}",
                fix="give a command that holds its load until it is ended, or use fewer --seconds",
            )


def record_levels(
    source: PowerSource, meter: Meter, levels: int, hold_s: float, command: Sequence[str], say: Callable[[str], None]
) -> pd.DataFrame:
    """Hold idle and then each of ``levels`` loads for ``hold_s`` seconds; returns the record.

    With a command, it is started anew for each level, with ``{level}`` in its words and HARNESS_LEVEL in its
    environment set to 1 and up; without, a person at the terminal is asked to load the node.
    """
    if meter.boundary != "node":
        raise ConfigError(f"{meter.name} does not meter a node.", why=f"it covers {meter.boundary}")
    readings, spans = _Readings(), []
    sampler = SideBySide(source, [meter], readings.take, period_s=GPU_PERIOD_S)
    sampler.start()
    try:
        for level in range(levels + 1):
            with _loaded(level, command) as loaded:
                say(f"level {level} of {levels}{' (idle)' if level == 0 else ''} for {hold_s:g} s")
                start_s = time.monotonic()
                while time.monotonic() < start_s + hold_s:
                    time.sleep(min(_CHECK_S, hold_s))
                    loaded.check()
                    sampler.check()
                spans.append((level, start_s, time.monotonic()))
    finally:
        sampler.stop()
    return _as_table(readings, spans)


@contextmanager
def _loaded(level: int, command: Sequence[str]) -> Iterator[Loaded]:
    """Have the node carry a level; a command's whole process group is ended afterwards."""
    if level == 0 or not command:
        if not command:
            _ask_person(level)
        yield Loaded(level)
        return
    argv = [word.replace("{level}", str(level)) for word in command]
    received: list[int] = []
    with signals_to(received.append):  # the load leads a session of its own, so nothing else would end it
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), start_new_session=True,
                env={**os.environ, "HARNESS_LEVEL": str(level)},
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"{argv[0]} cannot be run.", why=error.strerror or str(error)) from error
        try:
            yield Loaded(level, process, received)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and after it, or after 10 s, whatever is left of its group."""
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _ask_person(level: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            "No command loads the node, and no person can be asked to.", why="standard input is not a terminal",
            fix="give a command after --, or a record with --from FILE",
        )  # fmt: skip
    wanted = "is idle" if level == 0 else f"carries load {level}, above the last one"
    print(f"Press Enter when the node {wanted}. ", end="", file=sys.stderr, flush=True)
    sys.stdin.readline()


def _as_table(readings: _Readings, spans: Sequence[tuple[int, float, float]]) -> pd.DataFrame:
    for name, rows in (("GPU source", readings.gpu), ("meter", readings.node)):
        if not any(watts is not None for _, watts in rows):
            raise MeasurementError(f"The {name} gave no power.", why=readings.last_error or "it reports none")
    gpu = pd.DataFrame(readings.gpu, columns=["t_s", "gpu_w"], dtype=float)
    node = pd.DataFrame(readings.node, columns=["t_s", "node_w"], dtype=float)
    table: pd.DataFrame = pd.concat([gpu, node])
    table = table.dropna(how="all", subset=["gpu_w", "node_w"]).sort_values("t_s", kind="stable", ignore_index=True)
    table["level"] = np.nan
    for level, start_s, end_s in spans:
        table.loc[table["t_s"].between(start_s, end_s), "level"] = level
    table["t_s"] -= table["t_s"].iloc[0]
    return table


def read_record(path: Path) -> pd.DataFrame:
    """Read a record from a CSV file; raises ``ConfigError`` with the offending column or line."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no record.", why=str(error)) from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ConfigError(
            f"{path} is no record.", why=f"it has no column {', '.join(missing)}",
            fix=f"the columns are {', '.join(COLUMNS)}; level 0 is idle",
        )  # fmt: skip
    for name in COLUMNS:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = (numbers.isna() & table[name].notna()) | (numbers < 0)
        if name == "t_s":
            wrong |= numbers.isna() | (numbers.diff() < 0)
        if name == "level":
            wrong |= numbers.notna() & (numbers % 1 != 0)
        if wrong.any():
            row = table.index[wrong][0]
            raise ConfigError(
                f"{path}, line {row + 2}: {name} = {table[name][row]} cannot be used.",
                fix="t_s rises, powers are in W, and level is 0 for idle and 1, 2, ... for loads",
            )
        table[name] = numbers
    columns: pd.DataFrame = table[list(COLUMNS)]
    return columns


def settled_stretches(table: pd.DataFrame, settle_s: float) -> list[Stretch]:
    """Cut a record into its stretches of one level each, without the first ``settle_s`` seconds of every one."""
    level = table["level"]
    number = (level != level.shift()).cumsum()[level.notna()]  # NaN differs from NaN, which separates stretches
    stretches = []
    for _, rows in table.loc[number.index].groupby(number):
        settled = rows[rows["t_s"] >= rows["t_s"].iloc[0] + settle_s]
        gpu, node = settled.dropna(subset="gpu_w"), settled.dropna(subset="node_w")
        stretches.append(
            Stretch(
                int(rows["level"].iloc[0]),
                *(column.to_numpy(float) for column in (gpu["t_s"], gpu["gpu_w"], node["t_s"], node["node_w"])),
            )
        )
    return stretches
