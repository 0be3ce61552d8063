"""What the verification of a run found, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console

STATUS = {"pass": "pass", "fail": "FAIL", "not_applicable": "n.a."}


def print_verification(document: Mapping[str, Any]) -> None:
    """Print each rule with its status, the figures of those that failed, and what was not checked."""
    console = stdout_console()
    for label in document["labels"]:
        console.print(f"! {label}", style="bold", soft_wrap=True)
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
    console.print(
        f"{document['run']}: {document['passed']} passed, {document['failed']} failed, "
        f"{document['not_applicable']} not applicable"
    )
    for note in document["notes"]:
        console.print(f"- {note}", soft_wrap=True)
