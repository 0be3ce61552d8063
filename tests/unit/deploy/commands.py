"""Commands of the harness as they stand in files, checked against the command line itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import typer.main

from harness.cli import app

IMAGE = "inference-energy-harness"
_COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def check(words: Sequence[str]) -> None:
    """Parse a command of the harness, given without its first word; raises click's error for what does not exist."""
    name, *options = words
    _COMMANDS[name].make_context(name, options)


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words after ``harness``, or after the image of a ``docker run``, of each line of a text.

    Continued lines are joined; what a shell adds after an option (a redirection, &) is cut off.
    """
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.strip().removeprefix("#"), comments=True) if "harness" in line and _plain(line) else []
        start = next((i for i, word in enumerate(words) if word in ("harness", IMAGE)), None)
        after = [] if start is None else words[start + 1 :]
        if after and after[0] in _COMMANDS and (start == 0 or words[0] == "docker"):
            yield [word for word in after if word not in ("&", "$@")]


def _plain(line: str) -> bool:
    return line.count("'") % 2 == 0 and line.count('"') % 2 == 0
