"""The command ``harness doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def doctor(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder that run folders would go to. Default: that of harness stress."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what this node can measure, what it cannot and why, and how to mend it. Nothing is changed.

    The exit code is 0 if harness stress can run here, if need be with an option that is named, and 3 if it cannot.
    """
    from harness.console.doctor import looking, print_examination
    from harness.doctor.examine import examine
    from harness.doctor.node import Node
    from harness.errors import NodeError

    with looking():
        document = examine(Node() if out is None else Node(out=out))
    if as_json:
        print_json(document)
    else:
        print_examination(document)
    if document["stress"] == "cannot_run":
        raise typer.Exit(NodeError.exit_code)
