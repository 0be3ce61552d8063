"""The live view of a run: a snapshot as lines of exactly the width and height there is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from harness.console.drawing import (
    LABEL_WIDTH,
    bar,
    both_ends,
    clock,
    closeness,
    codes,
    in_words,
    labelled,
    number,
    percent,
    phase_name,
    rule,
    sparkline,
)
from harness.console.snapshot import MEAN_S, Gpu, Snapshot
from harness.live.course import Look
from harness.live.trail import CLIENT_S, TRAIL_S

WIDE = 110
MOST_WARNINGS = 3
_MARKS = {"done": ("✓", "green"), "now": ("▶", "bold cyan"), "to_come": ("·", "dim"), "left_out": ("–", "dim")}
_SIMULATED = "bold reverse yellow"


class LiveView:
    """A snapshot that draws itself into the terminal's present size."""

    def __init__(self, shot: Snapshot) -> None:
        """Show ``shot``."""
        self._shot = shot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw at the size that the options give."""
        for line in view_lines(self._shot, options.max_width, options.height or console.height):
            yield from line.render(console, end="\n")  # its width is right: the layout of rich would cost twice as much


def _warnings(warnings: Sequence[str]) -> list[Text]:
    shown, more = warnings[:MOST_WARNINGS], len(warnings) - MOST_WARNINGS
    words = [*shown[:-1], f"{shown[-1]} (and {more} more)"] if more > 0 else shown
    return [labelled("!", Text(line, "yellow"), "bold yellow") for line in words]


def view_lines(shot: Snapshot, width: int, height: int) -> list[Text]:
    """Return at most ``height`` lines, none wider than ``width``; the log takes what height is left."""
    lines = [*_head(shot, width), *_course(shot, width)]
    lines += [rule("load", width), *_load(shot, width)]
    lines += [rule("energy", width, _source(shot)), *_energy(shot, width)]
    lines += _warnings(shot.warnings)
    left = height - len(lines) - 1
    if left > 0:
        lines += [rule("log", width), *(Text(line, "dim") for line in shot.log[-left:])]
    for line in lines[:height]:
        line.truncate(width, overflow="ellipsis")
        line.stylize(line.style)
    return lines[:height]


def _head(shot: Snapshot, width: int) -> Iterator[Text]:
    name = Text.assemble((f"harness {shot.facts.command}", "bold"), "  ", (shot.model or "no model yet", "bold cyan"))
    name.append(f"  {shot.facts.servers} · workload {shot.facts.workload}")
    if shot.repeat:
        name.append(f" · repeat {shot.repeat[0]} of {shot.repeat[1]}", "bold")
    yield both_ends(name, Text(clock(shot.elapsed_s), "bold"), width)
    if shot.simulated_gpus:
        yield Text(_simulated(shot).center(width), _SIMULATED)


def _simulated(shot: Snapshot) -> str:
    """Say in the space of a narrow terminal what is simulated and, where a meter is read, what is not."""
    if not shot.meters:
        return "SIMULATED POWER: no watt and no joule here is measured"
    if shot.simulated_joules:
        return f"SIMULATED GPU POWER and joules; metered: {shot.meter_names} watts alone"
    return f"SIMULATED GPU POWER; metered: {shot.meter_names}, with J/token and Wh"


def _course(shot: Snapshot, width: int) -> Iterator[Text]:
    yield _phases(shot, width)
    at, of = shot.cell_of or (None, None)
    where = "" if at is None else f" (cell {at}" + (f" of {of})" if of else ")")
    now = Text.assemble((f"{phase_name(shot.phase)} {shot.cell}".strip(), "bold cyan"), where)
    now.append(f"  {clock(shot.phase_elapsed_s)} gone, {in_words(shot.phase_left)}")
    size = min(40, width - now.cell_len - 2)
    if shot.phase_left.most_s and size > 0:
        total_s = shot.phase_elapsed_s + shot.phase_left.most_s
        now.append("  ").append_text(bar(shot.phase_elapsed_s / total_s, size, "cyan"))
    yield now
    early = "; a cell ends sooner once its J/token is known" if shot.ends_early and width >= WIDE else ""
    left = in_words(shot.run_left)
    estimate = " (estimate)" if shot.run_left.most_s != 0 else ""
    yield Text(f"this run: {left}{estimate}{early}", "dim")


def _phases(shot: Snapshot, width: int) -> Text:
    """List the phases, as far apart as the width allows."""
    chips = []
    for phase in shot.phases:
        mark, style = _MARKS[phase.state]
        chips.append(Text(f"{mark} {phase_name(phase.name)} {phase.count}".rstrip(), style))
    gaps = width - sum(chip.cell_len for chip in chips)
    return Text(" " * max(1, min(4, gaps // max(1, len(chips) - 1)))).join(chips)


def _load(shot: Snapshot, width: int) -> Iterator[Text]:
    yield labelled("server", _server(shot, width) if shot.model else Text("none ready yet", "dim"))
    yield labelled("TPS", _tps(shot, width - LABEL_WIDTH))
    done, failed = shot.requests.get("completed", 0), shot.requests.get("error", 0)
    row = Text.assemble((f"{done:,}", "bold"), " done, ", (f"{failed:,} failed", "bold red" if failed else ""))
    row.append(f", {shot.requests.get('aborted', 0):,} cut off at the ends of loads")
    yield labelled("requests", row)
    yield labelled("client", _client(shot))


def _client(shot: Snapshot) -> Text:
    if shot.client_lag_p99_s is None:
        return Text("no load", "dim")
    cpu = number(shot.client_cpu_share, ".0%")
    return Text(f"{1000 * shot.client_lag_p99_s:.1f} ms late (p99 of {CLIENT_S:g} s), {cpu} of a core")


def _server(shot: Snapshot, width: int) -> Text:
    size = 24 if width >= WIDE else 10
    asked = shot.concurrency
    row = Text.assemble("running ", (number(shot.running, ",.0f"), "bold"))
    if asked:
        row.append(f" of {asked:,} ").append_text(bar((shot.running or 0.0) / asked, size, "cyan"))
    row.append("  waiting ").append(number(shot.waiting, ",.0f"), "bold")
    row.append("  KV ").append(number(shot.kv_usage_ratio, ".0%"), "bold").append(" ")
    if shot.kv_usage_ratio is not None:
        row.append_text(bar(shot.kv_usage_ratio, size, "magenta" if shot.kv_usage_ratio > 0.9 else "cyan"))
    return row


def _tps(shot: Snapshot, width: int) -> Text:
    if shot.tps is None:
        if not shot.model:
            return Text("none yet", "dim")
        begun = f"not known yet: a server began, or began again, within the last {MEAN_S:g} s"
        return Text(begun if shot.tokens_told else "unknown: no token counter from every server", "dim")
    rate, span_s = shot.tps
    row = Text.assemble((f"{rate:,.0f}", "bold green"), f" tok/s over {span_s:.0f} s  ")
    rates = shot.rates[-max(0, min(len(shot.rates), width - row.cell_len - 12)) :]
    drawn = sparkline(rates)
    row.append(drawn, "green")
    return row.append(f" last {len(rates) / len(shot.rates) * TRAIL_S:.0f} s", "dim") if shot.rates else row


def _source(shot: Snapshot) -> str:
    if shot.facts.boundary == "node":
        meters = dict.fromkeys(source for source, boundary, _ in shot.meters if boundary == "node")
        return f"source {', '.join(meters) or 'the node meter'}, boundary node"
    name = "SIMULATED" if shot.simulated_joules else shot.facts.power
    return f"source {name}, boundary {shot.facts.boundary}"


def _energy(shot: Snapshot, width: int) -> Iterator[Text]:
    yield from _gpus(shot.gpus, width)
    yield labelled("total", _watts(shot, width))
    yield labelled("throttled", _throttled(shot))
    yield from _joules(shot, width)
    yield from _results(shot)


def _watts(shot: Snapshot, width: int) -> Text:
    facts, (gpu_w, span_s) = shot.facts, shot.gpu_watts or (None, None)
    row = Text.assemble("GPUs ", (number(gpu_w, ",.1f"), "bold"), " W")
    if facts.profile is not None:
        row.append("  node ").append(number(shot.node_watts, ",.1f"), "bold").append(" W")
    row.append(" [").append(facts.power, "bold yellow" if shot.simulated_gpus else "")
    if facts.profile is not None:
        row.append(f"; node by model {facts.profile.name}" if width >= WIDE else "; node modelled")
    row.append("]" if span_s is None else f"; {span_s:.0f} s]" if span_s else "; latest reading]")
    for source, boundary, metered_w in shot.meters:
        row.append(f"  {source} [{boundary}] ").append(number(metered_w, ",.1f"), "bold").append(" W")
    return row


def _gpus(gpus: Sequence[Gpu], width: int) -> Iterator[Text]:
    """Draw GPUs side by side; where one alone leaves room its bar is longer."""
    a_row = max(1, min(len(gpus), width // 38))
    cell = (width - LABEL_WIDTH) // a_row if gpus else 0
    for first in range(0, len(gpus), a_row):
        row = Text()
        for gpu in gpus[first : first + a_row]:
            drawn = _gpu(gpu, cell - 2)
            row.append_text(drawn).append(" " * max(0, cell - drawn.cell_len))
        yield labelled("" if first else "power", row)


def _gpu(gpu: Gpu, width: int) -> Text:
    style = "bold red" if gpu.fault else "bold"
    drawn = Text.assemble((f"{gpu.name} ", ""), (f"{number(gpu.watts, ',.0f')} W", style))
    tail = Text()
    if gpu.temperature_c is not None:
        tail.append(f" {gpu.temperature_c:.0f}°C")
    if gpu.utilization_ratio is not None:
        tail.append(f" {gpu.utilization_ratio:.0%}")
    size = min(20, width - drawn.cell_len - tail.cell_len - 1)
    if gpu.limit_w and gpu.watts is not None and size >= 3:
        drawn.append(" ").append_text(bar(gpu.watts / gpu.limit_w, size, "red" if gpu.fault else "yellow"))
    drawn.append_text(tail)
    drawn.truncate(width, overflow="ellipsis")
    return drawn


def _throttled(shot: Snapshot) -> Text:
    if shot.throttled_s is None:
        return Text("unknown: no device tells of its clocks", "dim")
    held = Counter(cause for gpu in shot.gpus for cause in gpu.throttled_by)
    now = [f"{cause} on {count} of {len(shot.gpus)}" for cause, count in held.items()]
    faults = any(gpu.fault for gpu in shot.gpus)
    row = Text(", ".join(now) or "not now", "bold red" if faults else "")
    longest = ", ".join(f"{cause} {seconds:.0f} s" for cause, seconds in shot.throttled_s.items())
    since = "longest on one GPU so far" if longest and len(shot.gpus) > 1 else "since the run began"
    return row.append(f"  {since}: {longest or 'never'}", "dim")


def _joules(shot: Snapshot, width: int) -> Iterator[Text]:
    target = shot.facts.precision_rel
    source = " simulated" if shot.simulated_joules else ""
    if shot.looks:
        yield labelled("J/token", _look(shot.looks[-1], target, source, 30 if width >= WIDE else 14))
    elif shot.joules_per_tok_now is not None:
        yield labelled("J/token", Text(f"about {shot.joules_per_tok_now:.4g}{source} now (watts over TPS)"))
    else:
        yield labelled("J/token", Text("none yet", "dim"))
    yield labelled("", Text(_next_look(shot), "dim"))


def _look(look: Look, target: float, source: str, size: int) -> Text:
    if look.joules_per_tok is None or look.half_width_rel is None:
        return Text(f"unknown in a {look.after_s:.0f} s window: {codes(look.reasons)}", "yellow")
    met = look.half_width_rel <= target
    row = Text.assemble((f"{look.joules_per_tok:.4g}", "bold"), " ± ")
    row.append(percent(look.half_width_rel), "bold green" if met else "bold yellow").append(f" (95%){source} ")
    row.append_text(bar(closeness(look.half_width_rel, target), size, "green" if met else "yellow"))
    return row.append(f" target ±{percent(target)}", "green" if met else "")


def _next_look(shot: Snapshot) -> str:
    seconds = shot.next_look_in_s
    following = "" if seconds is None else f"look at its interval in {seconds:.0f} s"
    if not shot.looks:
        return f"first {following}" if following else ""
    known = [look.half_width_rel for look in shot.looks[-4:]]
    widths = " → ".join("unknown" if half is None else f"±{percent(half)}" for half in known)
    seen = f"looks: {widths}" if len(shot.looks) > 1 else f"{shot.looks[-1].after_s:.0f} s window"
    open_points = codes(shot.looks[-1].reasons)
    last = f"next in {seconds:.0f} s" if following else "the budget will end this cell"
    return f"{seen}; {last}" + (f"; open: {open_points}" if open_points else "")


def _results(shot: Snapshot) -> Iterator[Text]:
    """Say what the last finished cells came to, beside the prediction."""
    measured = [figure for figure in shot.figures if (figure.kind, figure.stat) == ("measured", "mean")]
    predicted = {
        figure.cell: figure.wh for figure in shot.figures if (figure.kind, figure.stat) == ("predicted", "mean")
    }
    for figure in measured[-2:]:
        row = Text.assemble((f"{figure.cell} ", "bold"), (f"{figure.wh:.4g}", "bold green"))
        if figure.cell in predicted:
            row.append(f", predicted {predicted[figure.cell]:.4g}")
        row.append(" (").append(figure.source, "bold yellow" if "simulated" in figure.source else "").append(
            f", {figure.boundary})"
        )
        yield labelled("Wh/query", row)
