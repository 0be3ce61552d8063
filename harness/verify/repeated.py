"""Rules on repeated runs: that ``repeats.json`` says of its runs what their results say, and what follows from them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.verify.checks import Check, Finding, equal, found_by, same
from harness.verify.compared import differ
from harness.verify.evidence import Evidence
from harness.verify.figures import served_tok
from harness.verify.uncertainty import Z_95, common_rel_u, ratio_half_width

REPEATS_FILE = "repeats.json"
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Repeats:
    """The document of repeated runs, and its runs in their order."""

    document: Json
    runs: tuple[Evidence, ...]

    def cells(self, name: str) -> list[Json]:
        """Return what every run reports of the cell of a name."""
        return [cell for run in self.runs for cell in run.result["cells"] if cell["name"] == name]


def repeats_of(folder: Path, runs: Sequence[Evidence]) -> Repeats:
    """Read the document of repeated runs."""
    document = json.loads((folder / REPEATS_FILE).read_text(encoding="utf-8"))
    by_name = {run.folder.name: run for run in runs}
    return Repeats(document, tuple(by_name[line["folder"]] for line in document["runs"]))


def apply_group_rules(repeats: Repeats) -> tuple[Finding, ...]:
    """Return what every rule on repeated runs finds."""
    rules: tuple[tuple[str, str, Callable[[Repeats], list[Check]]], ...] = (
        ("repeats_runs", "repeats.json names its runs, their status and verdicts", _runs),
        ("repeats_prediction", "every repeat is compared with the same prediction", _prediction),
        ("repeats_spread", "means and spreads over runs are those of the runs' results", _spreads),
        ("repeats_ratio", "the energy ratio over runs is that of their pairs", _ratio),
    )
    return tuple(found_by(name, says, partial(rule, repeats), "no figures") for name, says, rule in rules)


def _runs(repeats: Repeats) -> list[Check]:
    checks = []
    for line, run in zip(repeats.document["runs"], repeats.runs, strict=True):
        verdicts = {cell["name"]: cell["verdict"] for cell in run.result["cells"]}
        checks.append(equal(f"verdicts of {line['folder']}", line["verdicts"], verdicts))
        checks += [equal(f"{name} of {line['folder']}", line[name], run.manifest[name]) for name in ("id", "status")]
    return checks


def _prediction(repeats: Repeats) -> list[Check]:
    """Cells of one name are predicted alike; a repeat keeps the first one's prediction."""
    means = [
        {name: cell["mean_wh"] for name, cell in (run.prediction or {"cells": {}})["cells"].items()}
        for run in repeats.runs
    ]
    return [Check(mean == means[0], f"{run.folder.name} {'as' if mean == means[0] else 'unlike'} the first")
            for mean, run in zip(means, repeats.runs, strict=True)]  # fmt: skip


def _spreads(repeats: Repeats) -> list[Check]:
    return [
        Check(found.ok, f"{line['cell']}: {found.text}")
        for line in repeats.document["cells"]
        for found in _spread_of(line, repeats.cells(line["cell"]))
    ]


def _spread_of(line: Json, cells: Sequence[Json]) -> list[Check]:
    usable = [cell for cell in cells if cell["verdict"] != "invalid"]
    energies = [cell["wh_per_query"] for cell in usable if cell["wh_per_query"]]
    random = [energy["uncertainty_parts_rel"].get("random") for energy in energies]
    checks = [equal("n", line["n"], len(usable)), equal("n_invalid", line["n_invalid"], len(cells) - len(usable))]
    checks += _moments("tok/s", line["tps_tok_per_s"], [cell["tps_tok_per_s"] for cell in usable], None)
    wh = [energy["mean"] for energy in energies]
    checks += _moments("Wh/query", line["wh_per_query"], wh, None if None in random else random)
    if len(wh) < 2:
        return checks
    parts = energies[0]["uncertainty_parts_rel"].items()
    systematic = math.sqrt(sum(part**2 for name, part in parts if name != "random" and part is not None))
    one = _deviation(wh) / (sum(wh) / len(wh))
    for name, over in (("of_one_run", one), ("of_the_mean", one / math.sqrt(len(wh)))):
        checks += same(name, line[f"standard_uncertainty_{name}_rel"], math.hypot(over, systematic))
    return checks


def _moments(name: str, reported: Json | None, values: Sequence[float], within: Sequence[float] | None) -> list[Check]:
    """Compare mean and spread; the spread between runs is known where that within them is."""
    if len(values) < 2 or reported is None:
        return [Check((len(values) < 2) == (reported is None), f"{name}: a spread of {len(values)} run(s)")]
    mean, deviation = sum(values) / len(values), _deviation(values)
    between = None
    if within is not None:
        inside = sum(u**2 for u in within) / len(within)
        between = math.sqrt(max(0.0, (deviation / mean) ** 2 - inside))
    return [
        equal(f"{name} n", reported["n"], len(values)),
        *same(f"{name} mean", reported["mean"], mean),
        *same(f"{name} spread", reported["u_run_rel"], deviation / mean),
        *same(f"{name} error of the mean", reported["u_mean_rel"], deviation / mean / math.sqrt(len(values))),
        *same(f"{name} between runs", reported["u_between_rel"], between, absolute=1e-7),
    ]


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _ratio(repeats: Repeats) -> list[Check]:
    reported, pairs = repeats.document["energy_ratio"], [run.pairs for run in repeats.runs if run.pairs]
    if reported is None or reported["measured"] is None or not pairs:
        told = not pairs or reported is None or reported["verdict"] == "invalid"
        return [Check(told, "no ratio over runs")] if reported is not None else []
    logs_by_run = [[_log_ratio(*pair) for pair in run] for run in pairs]
    logs = [sum(run) / len(run) for run in logs_by_run]
    centre = sum(logs) / len(logs)
    checks = [
        equal("pairs", reported["pairs"], sum(map(len, pairs))),
        *same("ratio", reported["measured"], math.exp(centre)),
    ]
    plain, multiplied = pairs[0][0]
    lengths_tok = [served_tok(plain), served_tok(multiplied)]
    scale = math.log(lengths_tok[1] / lengths_tok[0]) if differ(lengths_tok) else 0.0
    checks += same("exponent", reported["exponent"], centre / scale if scale else None, 1e-4)
    if len(logs) < 2:
        return checks  # one run: its own rules judge the interval
    common = common_rel_u(repeats.runs[0], plain, multiplied)
    basis, own = ratio_half_width(logs_by_run, [pair for run in pairs for pair in run])
    unknown = common is None or own is None
    checks.append(equal("basis", reported["interval_basis"], "unknown" if unknown else basis))
    if common is None or own is None:
        return [*checks, equal("interval", reported["measured_ci95"], None)]
    half = math.hypot(own, Z_95 * common)
    low, high = reported["measured_ci95"]
    checks += same("low", low, math.exp(centre - half), 1e-4) + same("high", high, math.exp(centre + half), 1e-4)
    if scale:
        for bound, log in zip(reported["exponent_ci95"], sorted([centre - half, centre + half]), strict=True):
            checks += same("exponent's bound", bound, log / scale, 1e-4)
    return checks


def _log_ratio(plain: Any, multiplied: Any) -> float:
    means = [cell.reported["wh_per_query"]["mean"] for cell in (plain, multiplied)]
    return math.log(means[1] / means[0])
