"""What several commands check before any long work: how much to draw, and whether their files can be written."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import ConfigError, StoreError
from harness.stress_options import LARGEST_MULTIPLIER

MOST_SAMPLES = 10**12
"""About seven hours on two cores; more of them would tell nothing new."""


def check_samples(samples: float, fewest: int = 1) -> int:
    """Return the number of samples; raises ConfigError unless it is whole and from ``fewest`` to ``MOST_SAMPLES``."""
    if not (fewest <= samples <= MOST_SAMPLES and samples == int(samples)):
        raise ConfigError(f"samples = {samples:g}: it must be a whole number from {fewest} to {MOST_SAMPLES:g}")
    return int(samples)


def check_multiplier(multiplier: float) -> None:
    """Raise ConfigError unless a multiplier of output lengths is positive and at most ``LARGEST_MULTIPLIER``."""
    if not 0 < multiplier <= LARGEST_MULTIPLIER:
        raise ConfigError(f"multiplier = {multiplier:g}: it must be positive and at most {LARGEST_MULTIPLIER:g}")


def check_writable(path: Path, option: str) -> None:
    """Raise StoreError unless ``path`` can be written: a new file in a folder that exists, or one to replace."""
    target = path if path.exists() else path.parent
    if path.is_dir():
        why = "it is a folder"
    elif not path.parent.is_dir():
        why = f"there is no folder {path.parent}"
    elif not os.access(target, os.W_OK):
        why = f"{target} is write-protected"
    else:
        return
    raise StoreError(f"cannot write {path}", why=why, fix=f"give another file with {option}")


def check_figure(path: Path, option: str) -> None:
    """Raise ConfigError unless ``path`` is named as PNG or SVG, and StoreError unless it can be written."""
    from results.figures.style import check_figure_path

    try:
        check_figure_path(path)
    except ValueError as error:
        raise ConfigError(str(error), fix=f"give {option} a .png or .svg file") from error
    check_writable(path, option)
