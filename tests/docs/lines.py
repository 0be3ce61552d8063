"""The commands of the pages, by what a test needs to run them."""

from __future__ import annotations

from tests.docs.generate.cli import commands
from tests.docs.pages import PAGES, Line, shell_lines

COMMANDS = commands()
LINES = [line for page in PAGES if page.name != "cli.md" for line in shell_lines(page)]
OURS = [line for line in LINES if line.words[0] == "harness"]
OTHERS = [line for line in LINES if line.words[0] != "harness"]

SERVED = ("stress", "sweep")
"""Commands that load a server."""
SENSED = ("measure", "exporter", "calibrate-node", "doctor")
"""Commands that read sensors, or look at the node."""
ELSEWHERE = ("reproduce",)
"""Run with the page of limits, which tells what comes out."""


def split(line: Line) -> tuple[str, list[str]]:
    """Return the name of the command of a line, and the words after it."""
    words = line.words[1:]
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    assert name, f"{line}: no such command"
    return name, words[len(name.split()) :]


def once(names: tuple[str, ...]) -> list[Line]:
    """Return the lines of these commands; one that stands on two pages, or twice, comes once."""
    return list({line.text: line for line in OURS if split(line)[0] in names}.values())


FILES_ALONE = once(tuple(name for name in COMMANDS if name not in (*SERVED, *SENSED, *ELSEWHERE)))
"""Lines that need nothing but files."""
