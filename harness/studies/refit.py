"""Refit: choose and fit a TPS model, and report everything that says how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from estimator.power.power_fit import PowerFit
from estimator.throughput.fit import fit_tps
from estimator.throughput.forms import REFIT_FORMS, FormName, InsufficientRowsError
from estimator.throughput.s1 import TpsRow, rows_named
from estimator.throughput.selection import FormScore, NestedScore, nested_leave_one_out, rank_forms
from estimator.throughput.tps import TpsModel
from harness.errors import ConfigError, StoreError, WorkloadError
from harness.studies.checks import check_figure, check_writable
from harness.studies.refit_pooled import fit_all_pooled
from harness.studies.refit_report import Fitted, report
from harness.studies.refit_rows import MeasuredRun, check_one_kind, joules_of, power_of, read_runs, read_table

SIMULATED = "the watts of these runs are simulated; --simulated-power fits them all the same"


@dataclass(frozen=True)
class RefitOptions:
    """What a refit is made from and where it is written; ``form`` None chooses by leave-one-out error."""

    runs: tuple[Path, ...] = ()
    table: Path | None = None
    model: str | None = None
    source: str | None = None
    form: str | None = None
    pooled: bool = False
    cap: bool = False
    out: Path = Path("tps-model.json")
    power_out: Path | None = None
    figure: Path | None = None
    simulated_power: bool = False


def refit(options: RefitOptions) -> dict[str, Any]:
    """Fit, write the files asked for and return the report as one JSON-able document.

    Raises ``ConfigError`` for options that make no sense, ``WorkloadError`` for rows that cannot be used or are
    too few, and ``StoreError`` for a file that cannot be written.
    """
    form = _checked(options)
    runs = read_runs(options.runs)
    every = _of_source(options, _rows(options, runs))
    target = _target(options, every)
    fitted = _pooled(options, form, every, target) if options.pooled else _alone(options, form, target, runs)
    measured = _runs_of(options, runs, target)
    notes = _notes(measured if target else runs)
    fitted = replace(fitted, model=fitted.model and fitted.model.noting(notes))
    with_watts = measured if options.simulated_power else [run for run in measured if not run.simulated_power]
    power, power_reason = power_of(with_watts)
    split = joules_of(with_watts)
    if measured and not with_watts:
        power_reason, split = SIMULATED, (None, SIMULATED, ())
    document = report(fitted, target, split, cap=options.cap) | {
        "power": None if power is None else json.loads(power.to_json()),
        "power_reason": power_reason,
    }
    if fitted.model is None:
        document["notes"] += notes
    document["written"] = _write(options, fitted.model, power, document)
    return document


def _checked(options: RefitOptions) -> FormName | None:
    if not options.runs and options.table is None:
        raise ConfigError("nothing to refit", fix="give run folders, or a table with --table FILE")
    check_writable(options.out, "--out")
    if options.power_out is not None:
        check_writable(options.power_out, "--power-out")
    if options.figure is not None:
        check_figure(options.figure, "--figure")
    if options.pooled and options.cap:
        raise ConfigError("--pooled has no cap", fix="leave out --cap")
    known = {str(name): name for name in REFIT_FORMS}
    if options.form is not None and options.form not in known:
        raise ConfigError(f"unknown form {options.form!r}", fix=f"choose one of {', '.join(known)}")
    return None if options.form is None else known[options.form]


def _rows(options: RefitOptions, runs: Sequence[MeasuredRun]) -> tuple[TpsRow, ...]:
    """Return the rows of runs and table, of every model."""
    of_table = () if options.table is None else read_table(options.table)
    rows = (*(row for run in runs for row in run.rows), *of_table)
    if options.model is not None and rows:
        try:
            rows_named(rows, options.model)
        except ValueError as error:
            raise WorkloadError(str(error), fix="name a model of the rows with --model") from error
    return rows


def _of_source(options: RefitOptions, rows: Sequence[TpsRow]) -> tuple[TpsRow, ...]:
    """Return the rows whose source holds the asked text, in any case; all where none is asked for."""
    if options.source is None:
        return tuple(rows)
    kept = tuple(row for row in rows if options.source.casefold() in row.source.casefold())
    if not kept or options.model not in (None, *(row.model for row in kept)):
        asked = [row for row in rows if options.model in (None, row.model)]
        sources = ", ".join(sorted({row.source for row in asked})) or "none"
        raise WorkloadError(
            f"no row{'' if options.model is None else f' of {options.model}'} has {options.source!r} in its source",
            why=f"the sources are: {sources}",
            fix="choose another --source",
        )
    return kept


def _target(options: RefitOptions, every: Sequence[TpsRow]) -> tuple[TpsRow, ...]:
    """Return the rows of the one model to fit; none where a pooled refit covers all and names none."""
    rows = tuple(row for row in every if options.model in (None, row.model))
    if options.pooled and options.model is None and len({row.model for row in rows}) > 1:
        return ()
    check_one_kind(rows)
    return rows


def _runs_of(options: RefitOptions, runs: Sequence[MeasuredRun], target: Sequence[TpsRow]) -> tuple[MeasuredRun, ...]:
    """Return the runs of the model to fit, whose watts and joules are reported with it."""
    kinds = {(row.model, row.gpus) for row in target}
    wanted = (options.source or "").casefold()
    return tuple(run for run in runs if (run.model, run.gpus) in kinds and wanted in f"run {run.id}".casefold())


def _alone(options: RefitOptions, form: FormName | None, rows: Sequence[TpsRow], runs: Sequence[MeasuredRun]) -> Fitted:
    scores = rank_forms(rows, cap=options.cap)
    selected = scores[0].name if form is None else form
    if form is None and scores[0].error is None:
        raise _too_few(rows, runs, scores)
    try:
        model = fit_tps(rows, selected, cap=options.cap)
    except InsufficientRowsError as error:
        raise WorkloadError(
            f"{_count(rows, runs)} do not determine the {selected} form",
            why="; ".join((str(error), *_notes(runs))),
            fix=_fix(rows),
        ) from error
    if model.dof == 0:
        note = f"an interpolation with unknown error, made because --form {selected} asked for it"
        model = model.noting([note])
    return Fitted(selected, model, scores, nested_leave_one_out(rows, cap=options.cap))


def _pooled(options: RefitOptions, form: FormName | None, every: Sequence[TpsRow], target: Sequence[TpsRow]) -> Fitted:
    try:
        pooled = fit_all_pooled(every, form)
    except (InsufficientRowsError, ValueError) as error:
        raise WorkloadError(
            "the models cannot be pooled", why=str(error), fix="give rows of more models, or leave out --pooled"
        ) from error
    model = pooled.models[target[0].model] if target else None
    nested = NestedScore(None, (), "a pooled refit is checked by leaving out models, not rows: see pooled")
    return Fitted(pooled.form, model, pooled.scores, nested, pooled)


def _notes(runs: Sequence[MeasuredRun]) -> tuple[str, ...]:
    return tuple(note for run in runs for note in run.notes)


def _count(rows: Sequence[TpsRow], runs: Sequence[MeasuredRun]) -> str:
    if runs:
        return f"{len(rows)} usable fixed-length cell(s) in {len(runs)} run(s)"
    return f"{len(rows)} row(s) of {rows[0].model}" if rows else "0 rows"


def _too_few(rows: Sequence[TpsRow], runs: Sequence[MeasuredRun], scores: Sequence[FormScore]) -> WorkloadError:
    reasons = "; ".join(f"{score.name}: {score.reason}" for score in scores)
    untested = f"no form can be tested on a row that it has not seen, so no error can be given ({reasons})"
    return WorkloadError(
        f"{_count(rows, runs)} are too few for a TPS model with an error",
        why="; ".join((untested, *_notes(runs))),
        fix=_fix(rows),
    )


def _fix(rows: Sequence[TpsRow]) -> str:
    varying = sum(len({getattr(row, name) for row in rows}) > 1 for name in ("input_tok", "output_tok"))
    missing = max(1, 1 + max(1, varying) + 1 - len(rows))
    return (
        f"measure more lengths: {missing} or more row(s), each with an input or output length of its own, e.g. harness "
        "stress --workload fixed:500x2000; or take --form NAME, an interpolation with unknown error; or --pooled with "
        "a --table of other models"
    )


def _write(
    options: RefitOptions, model: TpsModel | None, power: PowerFit | None, document: dict[str, Any]
) -> dict[str, str | None]:
    if options.power_out is not None and power is None:
        raise WorkloadError(
            "there is no power model to write", why=document["power_reason"], fix="leave out --power-out"
        )
    if options.figure is not None and model is None:
        raise ConfigError("a figure needs one model", fix="name it with --model")
    written: dict[str, str | None] = {"model": None, "power": None, "figure": None}
    if model is not None:
        written["model"] = _save(options.out, model.save, "--out")
    if options.power_out is not None and power is not None:
        written["power"] = _save(options.power_out, power.save, "--power-out")
    if options.figure is not None:
        from results.figures.refit import save_refit_figure

        written["figure"] = _save(options.figure, lambda path: save_refit_figure(document, path), "--figure")
    return written


def _save(path: Path, save: Callable[[Path], None], option: str) -> str:
    try:
        save(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}", why=error.strerror or str(error), fix=f"choose another {option}"
        ) from error
    return str(path)
