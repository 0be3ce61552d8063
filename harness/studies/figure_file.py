"""Write a figure where the user asked for it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from harness.errors import StoreError
from results.figures.style import save_figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG; raises StoreError where that is not possible."""
    try:
        save_figure(figure, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}", why=error.strerror or str(error), fix="choose another file") from error
