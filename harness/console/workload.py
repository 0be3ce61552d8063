"""What is in a workload, as tables and bars for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from harness.console.drawing import sparkline
from harness.console.terminal import stdout_console
from harness.console.words import duration

_BAR = "█"
_BAR_WIDTH = 28


def print_workload(document: dict[str, Any]) -> None:
    """Print requests and rate, lengths beside the regimes, their histogram, and the notes."""
    console = stdout_console()
    times = "" if document["multiplier"] == 1 else f", outputs x {document['multiplier']:g}"
    console.print(f"{document['name']}{times}: {document['description']} ({document['source']})", soft_wrap=True)
    for line in _facts(document):
        console.print(line)
    console.print(_lengths(document))
    console.print(_histogram(document["lengths"]))
    for note in document["notes"]:
        console.print(f"note: {note}")


def _facts(document: dict[str, Any]) -> list[str]:
    if document["requests"] is None:
        return []
    lines = [f"{document['requests']:,} usable requests of {document['rows']:,} rows"]
    arrivals = document["arrivals"]
    if arrivals is None:
        return lines
    rate, cv, rates = arrivals["rate_per_s"], arrivals["interarrival_cv"], arrivals["rate_per_s_by_bin"]
    lines[0] += f" over {duration(arrivals['span_s'])}"
    if rate is not None:
        lines[0] += f", {rate:.3g} requests/s on average"
    burst = "not known" if cv is None else f"{cv:.3g}"
    lines.append(f"burstiness: coefficient of variation of the time between requests {burst} (Poisson: 1)")
    if rates is not None:
        lines.append(f"requests/s, each mark {duration(arrivals['bin_s'])}, {min(rates):.3g} to {max(rates):.3g}:")
        lines.append(f"  {sparkline(rate or None for rate in rates)}")
    return lines


def _lengths(document: dict[str, Any]) -> Table:
    columns = {"this": document["lengths"], **document["regimes"]}
    table = Table(title="tokens a request, beside the paper's two regimes", header_style="bold")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for kind in ("input", "output"):
        for key in ("mean", "p5", "p25", "p50", "p75", "p95", "p99", "max"):
            values = [_count(each[f"{kind}_tok"][key]) for each in columns.values()]
            table.add_row(f"{kind}, {key}", *values, end_section=key == "max")
    table.add_row("output / input, means", *(f"{each['output_per_input_tok']:.3g}" for each in columns.values()))
    for position, limit in enumerate(document["lengths"]["over_context"]):
        shares = [_percent(each["over_context"][position]["share"]) for each in columns.values()]
        table.add_row(f"longer than {limit['context_tok']:,} together", *shares)
    return table


def _histogram(lengths: dict[str, Any]) -> Table:
    shares = {
        kind: {each["from_tok"]: each["share"] for each in lengths[f"{kind}_tok"]["histogram"]}
        for kind in ("input", "output")
    }
    most = max(max(each.values()) for each in shares.values())
    table = Table(title="share of the requests by length", header_style="bold")
    table.add_column("tokens", justify="right")
    for kind in shares:
        table.add_column(kind)
    for low in sorted({low for each in shares.values() for low in each}):
        label = f"{low:,} to {2 * low - 1:,}" if low > 1 else "1"
        table.add_row(label, *(_bar(each.get(low, 0.0), most) for each in shares.values()))
    return table


def _bar(share: float, most: float) -> str:
    return f"{_BAR * round(_BAR_WIDTH * share / most)} {_percent(share)}" if share else ""


def _count(tokens: float | None) -> str:
    return "no limit" if tokens is None else f"{tokens:,.0f}"


def _percent(share: float) -> str:
    """Return a share of which only none at all is 0.

    >>> _percent(0.0), _percent(0.00001), _percent(0.25)
    ('0%', '<0.1%', '25.0%')
    """
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}" if share else "0%"
