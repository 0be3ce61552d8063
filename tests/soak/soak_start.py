"""The equilibrium start beside a cold one on real vLLM: how long until the window rule accepts a window.

Run by ``make soak``; the result goes to docs/equilibrium-start.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from estimator.lengths import LengthDistribution
from harness.analysis.celllog import CellLog, read_cells, sum_over_servers
from harness.analysis.measured import PowerModel, window_figures
from harness.analysis.objections import STEADINESS_UNPROVEN
from harness.analysis.run import open_run, power_model
from harness.analysis.steady import AUTOCORRELATION_TOO_LONG, PRECISION_NOT_REACHED
from harness.cell import Bench, run_cell
from harness.cell_plan import plan_cell
from harness.config import load_config
from harness.job import Job, run_job
from harness.load.arrival import CLOSED, Arrival
from harness.load.closed_loop import ClosedLoop
from harness.load.processes import Load
from harness.load.queries import IndependentQueries
from harness.load.request import Query
from harness.manifest import create_run_folder, new_manifest
from harness.plan import make_plan
from harness.runner import run_interruptible
from results.figures.style import COLOURS, save_figure
from tests.paths import ROOT
from tests.soak.conftest import Say, needs_vllm, table

REPETITIONS = 3
INPUT_TOK, SHORTEST_TOK, LONGEST_TOK, CONCURRENCY = 64, 480, 544, 32
BUDGETS_S = {"equilibrium": 60.0, "cold": 150.0}
LOOK_S, MOST_OF_COLD = 1.0, 0.6
MORE_DATA = frozenset({AUTOCORRELATION_TOO_LONG, STEADINESS_UNPROVEN, PRECISION_NOT_REACHED})
SMALL_CACHE = ("--max-model-len=8192", "--block-size=32", "--num-gpu-blocks-override=625")
DOCUMENT = ROOT / "docs" / "equilibrium-start.md"
HEAD = f"""# What starting in equilibrium saves

Written by `make soak` (`tests/soak/soak_start.py`) on a 2-core CPU, vLLM CPU build, simulated power: tokens, times and
KV usage are measured; watts are simulated from the requests that the server runs, for the rule looks at power too.

One server with {CONCURRENCY} requests in flight, which is all that it runs at once; prompts of {INPUT_TOK} tokens,
outputs drawn evenly from {SHORTEST_TOK} to {LONGEST_TOK} tokens; a KV cache of 20,000 tokens
(`{" ".join(SMALL_CACHE)}`), of which they use about half. Two ways to start, in
turn:

- *equilibrium*, as every cell of the harness starts: the first request of each slot is one that a stationary process
  would have in flight, its age sent as prompt;
- *cold*: {CONCURRENCY} whole requests begin together, with age 0. The harness has no such option; the study makes its
  load client do so.

The window rule is then asked on the stored log of each cell, as if the load had ended {LOOK_S:g} s after its
start, {2 * LOOK_S:g} s and so on, without a warm-up: *accepted after* is the first time at which nothing speaks against
its window: it is long enough, its ramp is over, no drift, no level shift, no cohorts in step. It never accepts less
than 40 scrapes, 20 s. Three codes may remain, for they ask for more data however a load was started:
{", ".join(f"`{reason}`" for reason in sorted(MORE_DATA))}. On this machine, whose
throughput wanders by several percent from scrape to scrape, a change below 2% is not proven within minutes.
`{AUTOCORRELATION_TOO_LONG}` was set aside after a look at an earlier run of this study; the result with it counted
is given too.
(A real cell is looked at only at doubling lengths; looking each second finds the first moment, for both starts alike.)
Fill: until every slot has its first token. Early swing: standard deviation over mean of KV usage while the first two
mean requests last.
"""


class ColdQueries(IndependentQueries):
    """Requests of which the first ones start whole, at age 0."""

    def first_fill(self, server: int) -> Query:
        """Return a new request."""
        return replace(self.next(server), first_fill=True)


class ColdBench(Bench):
    """A bench whose loads start cold."""

    def loop(self, cell: str, lengths: LengthDistribution, arrival: Arrival = CLOSED) -> Load:
        """Return an idle load whose slots will begin together."""
        loop = super().loop(cell, lengths, arrival)
        assert isinstance(loop, ClosedLoop)
        loop._queries = ColdQueries(lengths, self.rng)
        return loop


@dataclass(frozen=True)
class Start:
    """One cell: how it was started, its log, when its load began, and when the rule first accepted a window.

    ``strictly_accepted_s`` is the same with ``autocorrelation_too_long`` counted against a window.
    """

    kind: str
    log: CellLog
    begin_s: float
    accepted_s: float | None
    strictly_accepted_s: float | None
    refused_for: Counter[str]

    @property
    def load_s(self) -> float:
        """Return how long the load lasted."""
        return self.log.load_stop_s - self.begin_s

    @property
    def seconds(self) -> float:
        """Return how long the rule had nothing to accept: the whole load where it never accepted."""
        return self.load_s if self.accepted_s is None else self.accepted_s

    @property
    def strict_seconds(self) -> float:
        """Return the same for the rule that also counts ``autocorrelation_too_long``."""
        return self.load_s if self.strictly_accepted_s is None else self.strictly_accepted_s

    def kv_usage(self) -> tuple[np.ndarray, np.ndarray]:
        """Return times since the start of the load and KV usage."""
        t_s, usage = sum_over_servers(self.log.server, "kv_usage_ratio")
        loaded = (t_s >= self.log.filled_s) & (t_s <= self.log.load_stop_s)
        return t_s[loaded] - self.begin_s, usage[loaded]

    def throughput(self) -> tuple[np.ndarray, np.ndarray]:
        """Return times since the start of the load and tok/s between scrapes."""
        t_s, tokens = sum_over_servers(self.log.server, "generation_tok")
        loaded = (t_s >= self.begin_s) & (t_s <= self.log.load_stop_s)
        rate = np.diff(tokens[loaded]) / np.diff(t_s[loaded])
        return t_s[loaded][1:] - self.begin_s, rate

    def request_s(self) -> float:
        """Return how long a mean request takes."""
        _, rate = self.throughput()
        return CONCURRENCY * self.log.definition.mean_output_tok / float(rate.mean())

    def early_swing(self, seconds: float) -> float:
        """Return standard deviation over mean of KV usage in the first seconds after the fill."""
        t_s, usage = self.kv_usage()
        early = usage[t_s <= t_s[0] + seconds]
        return float(early.std() / usage.mean())


@pytest.fixture(scope="module")
def starts(say: Say, tmp_path_factory: pytest.TempPathFactory) -> list[Start]:
    """Cells started either way in turn, on one server."""
    needs_vllm()
    home = tmp_path_factory.mktemp("starts")
    options = {
        "model": "tiny",
        "power": "simulated",
        "workload": f"azure:{_trace(home)}",
        "concurrency": CONCURRENCY,
        "server_arg": SMALL_CACHE,
        "precision": 1e-9,  # no cell ends before its budget
        "idle": 1,
        "linger": 0,
        "metrics_address": "none",
    }
    plan = make_plan(load_config(options, None), pair=False)
    run = create_run_folder(home, "starts")
    run_interruptible(run_job(plan, run, partial(new_manifest, plan, run), partial(_measure, say=say), say))
    return read_starts(run.folder)


def read_starts(folder: Path) -> list[Start]:
    """Return the cells of a run of this study, judged."""
    reader, manifest = open_run(folder)
    begins_s = [float(event["t_mono_s"]) for event in reader.events() if event["event"] == "cell_start"]
    return [
        _judged(log, begin_s, power_model(manifest)) for log, begin_s in zip(read_cells(reader), begins_s, strict=True)
    ]


def _trace(folder: Path) -> Path:
    path = folder / "lengths.csv"
    lines = [f"{INPUT_TOK},{output_tok}" for output_tok in range(SHORTEST_TOK, LONGEST_TOK + 1)]
    path.write_text("\n".join(["ContextTokens,GeneratedTokens", *lines]) + "\n")
    return path


async def _measure(job: Job, say: Say) -> None:
    cold = ColdBench(**{field.name: getattr(job.bench, field.name) for field in fields(job.bench)})
    for repetition in range(REPETITIONS):
        for kind, bench in (("equilibrium", job.bench), ("cold", cold)):
            say(f"{kind} start {repetition + 1} of {REPETITIONS}")
            cell = await plan_cell(job, f"{kind}-{repetition}", "compared", job.plan.workload)
            definition = cell.definition(job, BUDGETS_S[kind], 0.0, drain=False)
            await run_cell(bench, definition, cell.lengths)


def _judged(log: CellLog, begin_s: float, model: PowerModel) -> Start:
    kind, refused = log.definition.name.partition("-")[0], Counter[str]()
    accepted_s: float | None = None
    for looked_s in np.arange(LOOK_S, log.load_stop_s - begin_s, LOOK_S):
        figures = window_figures(replace(log, load_stop_s=begin_s + float(looked_s)), model)
        if figures is None:
            continue
        against = set(figures.window.reasons) - MORE_DATA
        if accepted_s is None:
            refused.update(against)
            accepted_s = None if against else float(looked_s)
        if not against and AUTOCORRELATION_TOO_LONG not in figures.window.reasons:
            return Start(kind, log, begin_s, accepted_s, float(looked_s), refused)
    return Start(kind, log, begin_s, accepted_s, None, refused)


def test_an_equilibrium_start_is_accepted_in_a_fraction_of_the_time_of_a_cold_one(starts: list[Start]) -> None:
    groups = {kind: [start for start in starts if start.kind == kind] for kind in BUDGETS_S}
    warm, cold = groups["equilibrium"], groups["cold"]
    request_s = float(np.median([start.request_s() for start in starts]))
    median_s = {kind: float(np.median([start.seconds for start in group])) for kind, group in groups.items()}
    DOCUMENT.write_text(_document(groups, request_s, median_s))
    save_figure(_figure(warm[-1], cold[-1]), DOCUMENT.with_suffix(".svg"))
    assert sum(start.accepted_s is not None for start in warm) > len(warm) / 2
    assert median_s["equilibrium"] <= MOST_OF_COLD * median_s["cold"]
    swings = [[start.early_swing(2 * request_s) for start in group] for group in (warm, cold)]
    assert max(swings[0]) < min(swings[1])


def _document(groups: dict[str, list[Start]], request_s: float, median_s: dict[str, float]) -> str:
    starts = [start for pair in zip(*groups.values(), strict=True) for start in pair]
    never = [start.accepted_s is None for start in starts if start.kind == "cold"]
    bound = (
        f"; {sum(never)} of {len(never)} cold starts were not accepted within their load, which stands for their time"
    )
    summary = (
        f"**Median time to an accepted window: {median_s['equilibrium']:.0f} s from equilibrium, "
        f"{median_s['cold']:.0f} s cold, a fraction of {median_s['equilibrium'] / median_s['cold']:.2f}"
        f"{bound if any(never) else ''}.** A mean request takes {request_s:.1f} s. {_strictly(groups)}\n"
    )
    head = ("start", "accepted after", "in mean requests", "fill", "early swing", "tok/s", "looks refused for")
    rows = [
        (
            start.kind,
            f"{start.accepted_s:.0f} s" if start.accepted_s is not None else f"not in {start.seconds:.0f} s",
            f"{'' if start.accepted_s is not None else '> '}{start.seconds / request_s:.1f}",
            f"{start.log.filled_s - start.begin_s:.1f} s",
            f"{start.early_swing(2 * request_s):.1%}",
            f"{float(start.throughput()[1].mean()):,.0f}",
            ", ".join(f"`{reason}` {count}" for reason, count in start.refused_for.most_common()) or "-",
        )
        for start in starts
    ]
    figure = f"![KV usage and throughput after either start]({DOCUMENT.stem}.svg)\n"
    return "\n".join([HEAD, summary, table(head, rows), figure])


def _strictly(groups: dict[str, list[Start]]) -> str:
    warm_s, cold_s = (float(np.median([start.strict_seconds for start in group])) for group in groups.values())
    never = sum(start.strictly_accepted_s is None for group in groups.values() for start in group)
    counted = f"With `{AUTOCORRELATION_TOO_LONG}` counted the medians are {warm_s:.0f} s and {cold_s:.0f} s"
    if never:
        return f"{counted}, the whole load standing for the {never} that were never accepted."
    return f"{counted}, a fraction of {warm_s / cold_s:.2f}."


def _figure(warm: Start, cold: Start) -> Figure:
    figure = Figure(figsize=(9, 6), layout="constrained")
    usage, rate = figure.subplots(2, 1, sharex=True)
    for colour, start in zip(COLOURS, (warm, cold), strict=False):
        t_s, values = start.kv_usage()
        usage.plot(t_s, 100 * values, color=colour, label=f"{start.kind} start")
        rate.plot(*start.throughput(), color=colour, linewidth=1)
        for axes in (usage, rate):
            if start.accepted_s is not None:
                axes.axvline(start.accepted_s, color=colour, linestyle="--", linewidth=1)
    usage.set(ylabel="KV cache in use (%)", ylim=(0, None))
    rate.set(ylabel="output tokens per second", xlabel="seconds since the load began", ylim=(0, None))
    usage.set_title("dashed: a window is accepted; 2-core CPU, vLLM CPU build", fontsize="small")
    usage.legend(fontsize="small")
    return figure
