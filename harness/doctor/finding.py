"""What an examination of a node consists of: one finding a thing looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "limits", "missing", "unknown"]
"""``ok``; ``limits``: there, but the figures or the run suffer; ``missing``; ``unknown``: it cannot be told here."""

Effect = Literal["runs", "needs_option", "cannot_run"]
"""What a finding does to ``harness stress``: nothing, stops it as given by default, or stops it whatever is given."""

EFFECTS: tuple[Effect, ...] = ("runs", "needs_option", "cannot_run")
"""From harmless to worst."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``id`` is stable, its first part the topic; ``fix`` holds commands, the nearest first.

    ``meaning`` says what it does to the figures; it is empty where all is well and nothing is to be known.
    """

    id: str
    title: str
    status: Status
    found: str
    meaning: str = ""
    fix: tuple[str, ...] = ()
    stress: Effect = "runs"

    @property
    def topic(self) -> str:
        """Return the part of the node it is about."""
        return self.id.partition(".")[0]
