"""What several commands share: the option for JSON, and the printing of a JSON document."""

from __future__ import annotations

from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def print_json(document: Any) -> None:
    """Print exactly one JSON document on standard output."""
    print_json(document)
