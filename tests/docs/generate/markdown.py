"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MADE = "Made from the code by `make docs`; a test keeps it in step."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar within a cell would end it, so it is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(*words: str) -> str:
    """Return words as code, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
