"""Ten pairs of runs of the same cell on real vLLM, every run on a server started anew.

Run by ``make soak``; the result goes to docs/repeatability.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from estimator.paired import repeated
from estimator.uncertainty import batch_means_ratio
from harness.analysis.celllog import read_cells, sum_over_servers
from harness.analysis.run import analyse_run, open_run
from results.schema import CellResult
from tests.paths import ROOT
from tests.soak.conftest import Harness, Say, table
from tests.soak.repeatability import Agreement, Measured, agreements

RUNS, MAX_INVALID, AT_LEAST_INSIDE = 20, 5, 0.8
WORKLOAD, CONCURRENCY, BUDGET_S = "fixed:64x128", 40, 26
DOCUMENT = ROOT / "docs" / "repeatability.md"
OPTIONS = (
    "--ladder", str(CONCURRENCY), "--workload", WORKLOAD, "--budget", str(BUDGET_S), "--idle", "1", "--linger", "0",
    "--power", "simulated", "--metrics-address", "none",
)  # fmt: skip
HEAD = f"""# Do two runs of the same cell agree?

Written by `make soak` (`tests/soak/soak_pairs.py`) on a 2-core CPU, vLLM CPU build, simulated power: tokens and times
are measured, and with them TPS; watts are simulated from the requests that the server runs, so J/token is simulated
watts over measured TPS and its errors are nearly those of TPS.

Each run is one cell of {CONCURRENCY} requests in flight, of which the server runs at most 32, on a server started for
this run alone. A run that the harness calls invalid is no measurement: it is left out, counted here, and made again.

The command is `harness sweep {" ".join(OPTIONS)} --seed 0`, with the next seed each time.

Run i is paired with run i + {RUNS // 2}, so a slow drift of the machine counts against agreement. A pair is *inside* if
|ln(second / first)| < 1.96 u, with u^2 = u1^2 + u2^2 + 2 b^2: u1 and u2 are the two runs' own random standard
uncertainties (batch means of their windows), and b is the standard deviation between runs that these do not explain,
from the {RUNS - 2} *other* runs alone (variance over runs less mean random variance, not below 0). What all runs have
in common, such as a sensor's gain, is not in u. Whatever else the machine did meanwhile is in b. At least
{AT_LEAST_INSIDE:.0%} of the pairs must be inside; 95% are expected.
"""


@dataclass(frozen=True)
class Run:
    """One run: its cell, and the relative random error of its TPS."""

    cell: CellResult
    tps: Measured
    joules_per_tok: Measured


@pytest.fixture(scope="module")
def runs(harness: Harness, say: Say, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Run], list[CellResult]]:
    """The runs, in the order they were made, and the invalid ones that were made again."""
    kept, invalid = list[Run](), list[CellResult]()
    while len(kept) < RUNS and len(invalid) <= MAX_INVALID:
        number = len(kept) + len(invalid)
        home = tmp_path_factory.mktemp(f"run-{number}")
        say(f"run {number + 1}: {len(kept)} of {RUNS} made, {len(invalid)} invalid")
        document = harness(home, "sweep", *OPTIONS, "--seed", str(number))
        folder = home / document["run"]["path"]
        (cell,) = analyse_run(folder).cells
        if cell.verdict == "invalid":
            invalid.append(cell)
        else:
            kept.append(_run(folder, cell))
        say(f"{cell.tps_tok_per_s or 0:,.0f} tok/s, {cell.verdict} {' '.join(cell.reasons)}")
    assert len(invalid) <= MAX_INVALID, [cell.reasons for cell in invalid]
    return kept, invalid


def _run(folder: Path, cell: CellResult) -> Run:
    assert cell.wh_per_query is not None and cell.joules_per_tok is not None
    random = cell.wh_per_query.uncertainty_parts_rel["random"]
    assert random is not None
    return Run(cell, _tps(folder, cell), Measured(cell.joules_per_tok, random))


def _tps(folder: Path, cell: CellResult) -> Measured:
    """Return TPS with its random error, from as many batches of the window as J/token was judged by."""
    assert cell.window is not None and cell.window.batches is not None
    (log,) = read_cells(open_run(folder)[0])
    t_s, tokens = sum_over_servers(log.server, "generation_tok")
    inside = (t_s >= cell.window.start_mono_s) & (t_s <= cell.window.end_mono_s)
    rate = batch_means_ratio(np.diff(tokens[inside]), np.diff(t_s[inside]), cell.window.batches)
    assert rate.ratio == pytest.approx(cell.tps_tok_per_s)
    return Measured(rate.ratio, rate.standard_error / rate.ratio)


def test_eight_of_ten_pairs_differ_by_less_than_their_uncertainty(runs: tuple[list[Run], list[CellResult]]) -> None:
    kept, invalid = runs
    tps = agreements([run.tps for run in kept])
    energy = agreements([run.joules_per_tok for run in kept])
    DOCUMENT.write_text(_document(kept, invalid, tps, energy))
    for pairs in (tps, energy):
        assert sum(pair.inside for pair in pairs) >= AT_LEAST_INSIDE * len(pairs)


def _document(kept: list[Run], invalid: list[CellResult], tps: list[Agreement], energy: list[Agreement]) -> str:
    parts = [
        HEAD,
        _verdicts(kept, invalid),
        "## Output tokens per second (measured)\n",
        _spread([run.tps for run in kept], tps),
        _pairs([run.tps for run in kept], tps, ",.0f"),
        "## J/token (simulated watts over measured tokens)\n",
        _spread([run.joules_per_tok for run in kept], energy),
        _pairs([run.joules_per_tok for run in kept], energy, ".5f"),
    ]
    return "\n".join(parts)


def _verdicts(kept: list[Run], invalid: list[CellResult]) -> str:
    verdicts = Counter(run.cell.verdict for run in kept)
    reasons = Counter(reason for run in kept for reason in run.cell.reasons)
    said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    why = ", ".join(f"`{reason}` {count} times" for reason, count in reasons.most_common()) or "none"
    gone = "; ".join(", ".join(cell.reasons) for cell in invalid) or "none"
    again = f"Invalid and made again: {len(invalid)} ({gone})."
    return f"Verdicts of the {len(kept)} runs: {said}. Reasons: {why}. {again}\n"


def _spread(measured: list[Measured], pairs: list[Agreement]) -> str:
    spread = repeated([run.value for run in measured], [run.random_rel_u for run in measured])
    assert spread is not None
    alone = sum(pair.inside_by_chance_alone for pair in pairs)
    return (
        f"**{sum(pair.inside for pair in pairs)} of {len(pairs)} pairs are inside.** Over all {spread.n} runs the "
        f"standard deviation is {spread.u_run_rel:.2%}, the random uncertainty of one run "
        f"{_root_mean_square(measured):.2%} (root mean square), and the spread between runs that it does not explain "
        f"{spread.u_between_rel:.2%}. By the random uncertainties alone {alone} pairs would be inside.\n"
    )


def _root_mean_square(measured: list[Measured]) -> float:
    return float(np.sqrt(np.mean([run.random_rel_u**2 for run in measured])))


def _pairs(measured: list[Measured], pairs: list[Agreement], form: str) -> str:
    head = ("runs", "first", "second", "difference", "random u", "spread of the others", "1.96 u", "inside")
    rows = [
        (
            f"{pair.first + 1}, {pair.second + 1}",
            format(measured[pair.first].value, form),
            format(measured[pair.second].value, form),
            f"{pair.difference:+.2%}",
            f"{pair.random_rel_u:.2%}",
            f"{pair.between_rel_u:.2%}",
            f"{pair.limit:.2%}",
            "yes" if pair.inside else "no",
        )
        for pair in pairs
    ]
    return table(head, rows)
