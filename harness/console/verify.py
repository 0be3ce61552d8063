"""What the verification of runs found, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import stdout_console

STATUS = {"pass": "pass", "fail": "FAIL", "not_applicable": "n.a."}


def print_verification(document: Mapping[str, Any]) -> None:
    """Print each rule with its status, the figures of those that failed, and what was not checked; of all runs."""
    console = stdout_console()
    if "runs" not in document:
        _print_run(console, document)
        return
    for run in document["runs"]:
        _print_run(console, run)
        console.print()
    if document["rules"]:
        _print_rules(console, document)
    console.print(f"{len(document['runs'])} runs in {document['path']}: {_counts(document)}", soft_wrap=True)


def _print_run(console: Console, document: Mapping[str, Any]) -> None:
    for label in document["labels"]:
        console.print(f"! {label}", style="bold", soft_wrap=True)
    _print_rules(console, document)
    console.print(f"{document['run']}: {_counts(document)}", soft_wrap=True)
    for note in document["notes"]:
        console.print(f"- {note}", soft_wrap=True)


def _print_rules(console: Console, document: Mapping[str, Any]) -> None:
    table = Table(header_style="bold")
    for name in ("", "rule", "what it says"):
        table.add_column(name)
    for rule in document["rules"]:
        why = f" ({rule['detail']})" if rule["status"] == "not_applicable" else ""
        table.add_row(STATUS[rule["status"]], rule["id"], rule["rule"] + why)
    console.print(table)
    for rule in document["rules"]:
        if rule["status"] == "fail":
            console.print(f"FAIL {rule['id']}: {rule['detail']}", style="bold", soft_wrap=True)


def _counts(document: Mapping[str, Any]) -> str:
    return f"{document['passed']} passed, {document['failed']} failed, {document['not_applicable']} not applicable"
