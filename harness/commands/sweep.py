"""``harness sweep``: a concurrency ladder and a grid of lengths on one server."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from harness.commands.options import print_json
from harness.commands.stress import INTERRUPTED_EXIT, INVALID_RESULT_EXIT, stress
from harness.stress_options import NOT_FOR_SWEEPS

_OWN: dict[str, Any] = {
    "ladder": Annotated[
        str | None,
        typer.Option(help="Concurrencies: auto (1, 2, 4 ... to saturation), none, or 1,4,16. Default: auto."),
    ],
    "grid": Annotated[
        list[str] | None,
        typer.Option(help="Fixed lengths INPUTSxOUTPUTS, e.g. 128,1024x128,1024 (repeatable). They feed refit."),
    ],
    "multiplier": Annotated[float | None, typer.Option(help="Output-length multiplier of the ladder. Default: 1.")],
    "resume": Annotated[Path | None, typer.Option(help="Run folder of a sweep that was cut short, to go on with.")],
}


def sweep(**given: Any) -> None:
    """Measure throughput and energy from one request in flight to saturation, and over a grid of lengths."""
    resume, file = given.pop("resume"), given.pop("config")
    dry_run, quiet, as_json = (given.pop(name) for name in ("dry_run", "quiet", "as_json"))
    flags = {key: value for key, value in given.items() if value is not None}
    from harness.console.plan import plan_lines
    from harness.console.snapshot import facts_of
    from harness.console.sweep import cells_line, print_sweep
    from harness.console.terminal import Progress
    from harness.plan import make_plan
    from harness.runner import run_interruptible
    from harness.sweep import new_sweep, resumed_sweep, run_sweep, stored_sweep_config
    from harness.sweep_config import load_sweep_config, resumed_config

    config = resumed_config(stored_sweep_config(resume), flags, file) if resume else load_sweep_config(flags, file)
    plan = make_plan(config.stress, pair=False)
    progress = Progress(quiet=quiet)
    for line in plan_lines(plan, cells_line(config)):
        progress.say(line)
    if dry_run:
        return
    ready = resumed_sweep(config, plan, resume) if resume else new_sweep(config, plan)
    with progress.showing(lambda: facts_of(plan, "sweep")) as watch:
        document = run_interruptible(run_sweep(ready, progress.say, watch))
    if as_json:
        print_json(document)
    else:
        print_sweep(document)
    if document["run"]["status"] != "complete":
        raise typer.Exit(INTERRUPTED_EXIT)
    lines = [*(document["ladder"] or {"cells": []})["cells"], *document["grid"]["cells"]]
    if any(line["verdict"] == "invalid" for line in lines):
        raise typer.Exit(INVALID_RESULT_EXIT)


def _share_options() -> None:
    """Give ``sweep`` the options of ``stress`` besides its own, so that neither command can lag behind the other."""
    hints = get_type_hints(stress, include_extras=True)
    shared = {name: hint for name, hint in hints.items() if name not in (*NOT_FOR_SWEEPS, "return")}
    kinds = _OWN | {name: hint for name, hint in shared.items() if name not in _OWN}
    defaults = inspect.signature(stress).parameters
    sweep.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if name in _OWN else defaults[name].default,
                annotation=kind,
            )
            for name, kind in kinds.items()
        ]
    )
    sweep.__annotations__ = {**kinds, "return": None}


_share_options()
