"""``harness compare``: the comparison again, from what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def compare(
    run: Annotated[Path, typer.Argument(help="Run folder, as left by harness stress.")],
    as_json: JsonFlag = False,
) -> None:
    """Repeat the comparison of a stored run from its folder alone."""
    from harness.analysis import analyse_run
    from harness.console.run import print_result
    from harness.console.terminal import stdout_console

    result = analyse_run(run)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, stdout_console())
