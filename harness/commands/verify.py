"""The command ``harness verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json

FAILED_EXIT = 8


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs, made here or elsewhere.")],
    as_json: JsonFlag = False,
) -> None:
    """Re-derive every reported figure of a run from its raw files, and check its hashes and rules.

    The exit code is 0 if no rule failed, 8 if any did, and 6 if the folder cannot be read as a run or as several. Of
    several runs, one that cannot be read has failed.
    """
    from harness.console.verify import print_verification
    from harness.studies.verify import verification_document

    document = verification_document(run)
    if as_json:
        print_json(document)
    else:
        print_verification(document)
    if document["failed"]:
        raise typer.Exit(FAILED_EXIT)
