"""Parts of a live view: bars, sparklines, rows and times in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, log

from rich.text import Text

from harness.live.course import Span

LABEL_WIDTH = 10
_SPARKS = "▁▂▃▄▅▆▇█"
_WIDEST_HALF_WIDTH = 0.5


def bar(share: float, width: int, style: str) -> Text:
    """Return a bar that is filled to ``share`` of its width; it is full at 1 only."""
    full = int(min(1.0, max(0.0, share)) * width + 1e-9)
    return Text.assemble(("█" * full, style), ("░" * (width - full), "dim"))


def sparkline(values: Iterable[float | None]) -> str:
    """Return a character a value, from 0 to the largest; a space where a value is unknown.

    >>> sparkline([0, 4, None, 8])
    '▁▅ █'
    """
    known = list(values)
    largest = max((value for value in known if value is not None), default=0.0) or 1.0
    top = len(_SPARKS) - 1
    return "".join(" " if value is None else _SPARKS[round(value / largest * top)] for value in known)


def closeness(half_width_rel: float, target_rel: float) -> float:
    """Return how near an interval has come to its target, from 0 at +-50% to 1, on a logarithmic scale.

    >>> closeness(0.5, 0.02), closeness(0.02, 0.02), round(closeness(0.1, 0.02), 3)
    (0.0, 1.0, 0.5)
    """
    if half_width_rel <= target_rel:
        return 1.0
    return max(0.0, log(_WIDEST_HALF_WIDTH / half_width_rel) / log(_WIDEST_HALF_WIDTH / target_rel))


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them.

    >>> clock(5), clock(75), clock(3_675)
    ('0:05', '1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(left: Span) -> str:
    """Return what is left: a time, a range where it depends, or that it is unknown.

    >>> in_words(Span(20, 20)), in_words(Span(20, 80)), in_words(Span(0, 80))
    ('0:20 left', '0:20 to 1:20 left', 'at most 1:20 left')
    >>> in_words(Span(20, None)), in_words(Span(0, None)), in_words(Span(0, 0))
    ('at least 0:20 left', 'time left unknown', 'about to end')
    """
    least, most = ceil(left.least_s), None if left.most_s is None else ceil(left.most_s)
    if most is None:
        return f"at least {clock(least)} left" if least else "time left unknown"
    if most == 0:
        return "about to end"
    if most - least <= 1:
        return f"{clock(most)} left"
    return f"{clock(least)} to {clock(most)} left" if least else f"at most {clock(most)} left"


def labelled(label: str, words: Text, style: str = "dim") -> Text:
    """Return words behind their label."""
    return Text.assemble((label.ljust(LABEL_WIDTH), style)).append_text(words)


def rule(name: str, width: int, note: str = "") -> Text:
    """Return a line across the width with a name at its beginning and a note at its end."""
    tail = f" {note} ──" if note else ""
    filled = "─" * max(0, width - len(name) - len(tail) - 4)
    return Text.assemble(("── ", "dim"), (name, "bold"), (f" {filled}{tail}", "dim"))


def both_ends(left: Text, right: Text, width: int) -> Text:
    """Return a line with ``left`` at its beginning and ``right`` at its end."""
    left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
    return left.append(" " * max(1, width - left.cell_len - right.cell_len)).append_text(right)


def number(value: float | None, form: str) -> str:
    """Return a number, or that it is unknown."""
    return "unknown" if value is None else format(value, form)


def codes(reasons: Sequence[str]) -> str:
    """Return reason codes as words."""
    return ", ".join(reason.replace("_", " ") for reason in reasons)


def phase_name(phase: str) -> str:
    """Return what a person reads of a phase."""
    return "end" if phase == "done" else phase.replace("_", " ")


def percent(share: float) -> str:
    """Return a share in per cent, with the digits that tell small ones apart.

    >>> percent(0.097), percent(0.0045)
    ('9.7%', '0.45%')
    """
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"
