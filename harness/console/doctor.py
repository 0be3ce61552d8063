"""What the examination of a node found, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from harness.console.terminal import stdout_console

MARKS = {"ok": ("✓", "green"), "limits": ("!", "yellow"), "missing": ("✗", "red"), "unknown": ("?", "cyan")}
TOPICS = {
    "gpu": "GPUs and their driver",
    "meters": "Meters beside the GPUs",
    "server": "Server",
    "load": "Load",
    "node": "Node",
}
STRESS = {
    "runs": ("✓", "green", "harness stress runs here"),
    "needs_option": ("!", "yellow", "harness stress runs here, but needs an option: see the findings marked *"),
    "cannot_run": ("✗", "red", "harness stress cannot run here: see the findings marked *"),
}
_STATUS_WIDTH, _TITLE_WIDTH = 9, 18


def looking() -> AbstractContextManager[Any]:
    """Show on standard error, if that is a terminal, that the node is being looked at."""
    return Console(stderr=True).status("looking at this node; importing vLLM can take a minute or two")


def print_examination(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the summary first, then every finding by topic, and under each that is not well what mends it."""
    console = console or stdout_console()
    host = document["host"]
    console.print(f"{host['name']}: {host['system']}, Python {host['python'].split(' at ')[0]}", style="bold")
    _print_summary(document, console)
    for topic, findings in groupby(document["findings"], key=lambda finding: finding["topic"]):
        console.print()
        console.print(Rule(Text(TOPICS[topic], style="bold"), align="left", style="dim"))
        for finding in findings:
            _print_finding(finding, console)
    counts = document["counts"]
    console.print()
    console.print(
        f"{counts['ok']} ok, {counts['limits']} limit the figures or the run, {counts['missing']} missing, "
        f"{counts['unknown']} unknown. Lines that begin with $ are commands; none of them was run."
    )
    if any(finding["fix"] for finding in document["findings"]):
        console.print("Some of them change or restart the node for everyone on it: ask whoever runs it before you do.")


def _print_summary(document: Mapping[str, Any], console: Console) -> None:
    for can, heading in ((True, "This node can measure"), (False, "It cannot measure")):
        found = [one for one in document["capabilities"] if one["can"] is can]
        if not found and not can:
            continue
        console.print()
        console.print(heading, style="bold")
        for one in found:
            mark, colour = MARKS["ok" if can else "missing"]
            boundary = f" [{one['boundary']}]" if one["boundary"] else ""
            what = Text.assemble((one["what"], "bold"), (boundary, "dim"), f": {'' if can else 'because '}{one['how']}")
            _print_marked(mark, colour, what, console)
        if not found:
            _print_marked("✗", "red", Text("nothing"), console)
    console.print()
    mark, colour, sentence = STRESS[document["stress"]]
    _print_marked(mark, colour, Text(sentence, style="bold"), console)
    power = document["power_auto"]
    if power is not None:
        simulated = ": NOT a measurement of energy" if power["source"] == "simulated" else ""
        choice = f"--power auto takes {power['source']}{simulated}; --boundary auto takes {document['boundary_auto']}"
        _print_marked(" ", colour, Text(choice), console)


def _print_marked(mark: str, colour: str, text: Text, console: Console) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column()
    grid.add_row(Text(mark, style=colour), text)
    console.print(Padding(grid, (0, 0, 0, 2)))


def _print_finding(finding: Mapping[str, Any], console: Console) -> None:
    mark, colour = MARKS[finding["status"]]
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=_STATUS_WIDTH)
    grid.add_column(width=_TITLE_WIDTH)
    grid.add_column()
    star = "" if finding["stress"] == "runs" else " *"
    text = Text(finding["found"])
    if finding["meaning"]:
        text.append(f"\n→ {finding['meaning']}", style="dim" if finding["status"] == "ok" else "")
    grid.add_row(Text(f"{mark} {finding['status']}", style=colour), Text(finding["title"] + star, style="bold"), text)
    console.print(grid)
    for command in finding["fix"]:
        # A command is not broken into lines, so that it can be copied.
        prompt = "" if command.startswith("#") else "$ "
        console.print(f"{' ' * (_STATUS_WIDTH + 1)}{prompt}{command}", style="cyan", soft_wrap=True)
