"""Where a report was written and what is on it, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.console.terminal import stdout_console


def print_report(document: Mapping[str, Any]) -> None:
    """Print the page's path and, by run, its verdict and the figures that are missing."""
    console = stdout_console()
    console.print(f"report: {document['written']} ({document['bytes'] / 1e6:.1f} MB)", soft_wrap=True)
    for run in document["runs"]:
        console.print(f"{run['name']}: {run['verdict']}, power {run['power_source']}", soft_wrap=True)
        for title, reason in run["left_out"].items():
            console.print(f"  no figure '{title}': {reason}", soft_wrap=True)
