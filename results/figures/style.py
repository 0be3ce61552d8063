"""What all figures share: colours that colour-blind readers can tell apart, and the writing of PNG and SVG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, strongest contrast first."""

FIGURE_SUFFIXES = (".png", ".svg")
_METADATA: dict[str, dict[str, str | None]] = {".png": {"Software": None}, ".svg": {"Date": None}}


def check_figure_path(path: Path) -> None:
    """Raise ValueError unless ``path`` ends in .png or .svg, so that a bad name is known before any work.

    >>> check_figure_path(Path("spread.pdf"))
    Traceback (most recent call last):
    ValueError: cannot write a figure to spread.pdf: its name must end in .png or .svg
    """
    if path.suffix.casefold() not in FIGURE_SUFFIXES:
        raise ValueError(f"cannot write a figure to {path}: its name must end in {' or '.join(FIGURE_SUFFIXES)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG by the file's suffix, the same bytes each time; OSError if it cannot."""
    check_figure_path(path)
    suffix = path.suffix.casefold()
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format=suffix[1:], dpi=150, metadata=_METADATA[suffix])
