"""What ``harness sweep`` can be told: the options of stress for server and power, and which cells to measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from harness.analysis.differences import Difference, differences
from harness.config import StressConfig, read_config_file, validated
from harness.errors import ConfigError
from harness.stress_options import NOT_FOR_SWEEPS

Ladder = Literal["auto"] | tuple[int, ...]

FREE_KEYS = ("metrics_address", "linger", "ready_timeout", "keep_server", "out")
"""Keys that change nothing that is measured: a resumed sweep may have others."""


@dataclass(frozen=True)
class SweepConfig:
    """Configuration of a sweep: ``stress`` for everything it shares with a stress run.

    ``ladder`` holds the concurrencies of the ladder, ``auto`` to climb to saturation, or none; ``grid`` the fixed
    (input, output) lengths in tokens.
    """

    stress: StressConfig
    ladder: Ladder
    grid: tuple[tuple[int, int], ...]

    def document(self) -> dict[str, Any]:
        """Return the configuration as the manifest keeps it; ``sweep_config`` makes it again."""
        own = {name: value for name, value in self.stress.model_dump(mode="json").items() if name not in NOT_FOR_SWEEPS}
        ladder = self.ladder if self.ladder == "auto" else ",".join(map(str, self.ladder)) or "none"
        return {**own, "ladder": ladder, "grid": [f"{inputs}x{outputs}" for inputs, outputs in self.grid]}


def load_sweep_config(flags: Mapping[str, Any], file: Path | None) -> SweepConfig:
    """Merge ``flags`` over the YAML ``file`` over the defaults; raises ``ConfigError``."""
    return sweep_config({**read_config_file(file), **flags})


def sweep_config(merged: Mapping[str, Any]) -> SweepConfig:
    """Return the sweep that keys and values give; its lengths are not multiplied unless asked for."""
    own = {"ladder": "auto", "grid": (), "multiplier": 1.0, **merged}
    ladder, grid = _ladder(own.pop("ladder")), _grid(own.pop("grid"))
    refused = [name for name in NOT_FOR_SWEEPS if name in own]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)}: not for a sweep, which has neither pairs nor an open loop", fix="use stress"
        )
    if not ladder and not grid:
        raise ConfigError("nothing to sweep", why="ladder is none and no grid is given", fix="give --grid or --ladder")
    return SweepConfig(validated(own), ladder, grid)


def resumed_config(stored: Mapping[str, Any], flags: Mapping[str, Any], file: Path | None) -> SweepConfig:
    """Return the configuration of a sweep that goes on: the stored one, of which nothing measured may change.

    Options given again must agree with it; ``ConfigError`` shows those that do not.
    """
    before = sweep_config(stored)
    after = sweep_config({**stored, **read_config_file(file), **flags})
    refuse(differences(before.document(), after.document(), FREE_KEYS))
    return after


def refuse(changed: tuple[Difference, ...]) -> None:
    """Raise ``ConfigError`` with the differences, if there are any."""
    if changed:
        raise ConfigError(
            "the sweep cannot be resumed: " + "; ".join(map(str, changed)),
            why="its finished cells were measured otherwise, and one run must not mix the two",
            fix="resume it as it was begun, or begin a new sweep",
        )


def _ladder(given: Any) -> Ladder:
    text = ",".join(map(str, given)) if isinstance(given, (list, tuple)) else str(given)
    if text in ("auto", "none"):
        return "auto" if text == "auto" else ()
    if not re.fullmatch(r"\d+(,\d+)*", text) or 0 in (steps := tuple(map(int, text.split(",")))):
        raise ConfigError(f"ladder = {text!r}: give auto, none, or concurrencies such as 1,4,16")
    return tuple(sorted(set(steps)))


def _grid(given: Any) -> tuple[tuple[int, int], ...]:
    """Return the cells of ``128,1024x128,1024``: every input with every output; or of a list of such texts."""
    cells: list[tuple[int, int]] = []
    for text in [given] if isinstance(given, str) else given:
        parts = re.fullmatch(r"(\d+(?:,\d+)*)x(\d+(?:,\d+)*)", str(text))
        if parts is None:
            raise ConfigError(
                f"grid = {text!r} is not INPUTS x OUTPUTS", fix="give token counts, e.g. --grid 128,1024x128,1024"
            )
        inputs, outputs = (tuple(map(int, part.split(","))) for part in parts.groups())
        cells += product(inputs, outputs)
    if any(min(lengths) < 1 for lengths in cells):
        raise ConfigError(f"grid = {given!r}: every length is at least 1 token")
    return tuple(dict.fromkeys(cells))
