"""The command line: parse, call one function, turn errors into messages and exit codes. No logic."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from harness import __version__
from harness.commands.calibrate_node import calibrate_node
from harness.commands.compare import compare
from harness.commands.doctor import doctor
from harness.commands.estimate import estimate
from harness.commands.exporter import exporter
from harness.commands.fleet import fleet
from harness.commands.importing import import_
from harness.commands.measure import measure
from harness.commands.refit import refit
from harness.commands.report import report
from harness.commands.reproduce import reproduce
from harness.commands.stress import stress
from harness.commands.sweep import sweep
from harness.commands.verify import verify
from harness.commands.workload import workload
from harness.errors import HarnessError, not_written

app = typer.Typer(
    name="harness",
    help="Run an LLM server to saturation, measure tokens and watts, and compare measured with predicted Wh per query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERNAL_ERROR_EXIT = 70


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


for command in (stress, sweep, compare, report, verify, doctor, exporter, refit, estimate, fleet, reproduce):
    app.command()(command)
app.command("import")(import_)
app.command()(measure)
app.command("calibrate-node")(calibrate_node)
app.add_typer(workload, name="workload")


def main() -> None:
    """Run the command line; every error becomes one message on standard error and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is kept for its report, not thrown at the user
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _end_full(error)
        print(f"error: {_keep_bug(error)}", file=sys.stderr)
        sys.exit(INTERNAL_ERROR_EXIT)


def _end_full(error: OSError) -> NoReturn:
    """Say that a disk is full. What is left to be printed goes nowhere: it would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    full = not_written(str(error.filename or "standard output or a file"), error)
    print(f"error: {full}", file=sys.stderr)
    sys.exit(full.exit_code)


def _keep_bug(error: Exception) -> HarnessError:
    """Write the traceback of an error nobody foresaw to a file, and say where it is."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="harness-bug-", suffix=".log", delete=False) as log:
        log.write("".join(traceback.format_exception(error)))
    return HarnessError(
        f"the harness has a bug: {type(error).__name__}: {error}",
        why="nothing in it foresaw this",
        fix=f"report it with {log.name}; what was measured until now is in the run folder",
    )


if __name__ == "__main__":
    main()
