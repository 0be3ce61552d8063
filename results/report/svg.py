"""Turn a matplotlib figure into inline SVG that follows the page's colours and says what it shows.

Figures are drawn in real colours; each is replaced by a CSS variable of the page, so that one drawing serves light
and dark. Texts stay texts. Nothing of a figure's texts is parsed as mathematics, whatever a run folder put into them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup

from results.figures.style import COLOURS
from results.report.view import Drawing

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = COLOURS[:6]
INK, MUTED, GRID, PAPER = "#1b1c20", "#5a5c66", "#dddfe5", "#ffffff"
IDLE, CELL, WINDOW = "#f3f4f7", "#e9edf5", "#c9dcf0"

VARIABLES: Mapping[str, str] = {
    BLUE: "--blue", ORANGE: "--orange", GREEN: "--green", PINK: "--pink", AMBER: "--amber", SKY: "--sky",
    INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper",
    IDLE: "--idle", CELL: "--cell", WINDOW: "--window",
}  # fmt: skip
"""By colour drawn: the CSS variable that stands for it on the page."""

WIDE_IN, NARROW_IN = 7.4, 3.7

_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.axisbelow": True, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.labelsize": 9,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "lines.linewidth": 1.5,
}  # fmt: skip
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")

ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


def inline_svg(drawing: Drawing, *, narrow: bool) -> Markup:
    """Return a drawing as an ``svg`` element with title and description.

    Raises ValueError for a colour that has no variable: it would not follow the page.
    """
    prefix = f"{drawing.key}-{'n' if narrow else 'w'}"
    with mpl.rc_context({**_RC, "svg.hashsalt": prefix}):
        file = io.BytesIO()
        drawing.draw(narrow).savefig(file, format="svg", metadata={"Date": None})
    root = ET.fromstring(file.getvalue())  # noqa: S314 - matplotlib wrote it a moment ago, with every text escaped
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            element.set(name, _themed(name, value, prefix))
    _drop_what_the_page_has(root)
    _describe(root, drawing, prefix)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - serialised XML of our own figure


def _themed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href"):
        return value.replace("#", f"#{prefix}-")
    if name == "clip-path":
        return value.replace("url(#", f"url(#{prefix}-")
    if name == "style":
        return _COLOUR.sub(_variable, _FONT.sub("", value))
    if name in ("d", "points", "x", "y", "transform", "width", "height"):
        return _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value)
    return value


def _variable(match: re.Match[str]) -> str:
    colour = {known.casefold(): name for known, name in VARIABLES.items()}.get(match[0].casefold())
    if colour is None:
        raise ValueError(f"the colour {match[0]} has no CSS variable: draw with those of results.report.svg")
    return f"var({colour})"


def _drop_what_the_page_has(root: ET.Element) -> None:
    """Remove metadata, a style rule that would hold for the whole page, and the fixed size."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)


def _describe(root: ET.Element, drawing: Drawing, prefix: str) -> None:
    title, description = ET.Element(f"{{{_SVG}}}title"), ET.Element(f"{{{_SVG}}}desc")
    title.text, description.text = drawing.title, drawing.finding
    title.set("id", f"{prefix}-title")
    description.set("id", f"{prefix}-desc")
    root.insert(0, title)
    root.insert(1, description)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    root.set("class", "narrow" if prefix.endswith("-n") else "wide")
