"""Keep the results of the benchmarks in docs/benchmarks.md: each test replaces its own section alone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.paths import ROOT

RESULTS = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench` (`tests/bench/`): each test that meets its limits replaces its own section.
"""


def record(title: str, lines: Sequence[str], results: Path = RESULTS) -> None:
    """Write the lines as the section of that title; the other sections stay, in alphabetical order."""
    text = results.read_text() if results.exists() else HEAD
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    body = "\n".join(f"- {line}" for line in lines)
    sections[title] = f"\nOn a {len(os.sched_getaffinity(0))}-core CPU.\n\n{body}\n"
    results.write_text(HEAD + "".join(f"\n## {name}\n\n{sections[name].strip()}\n" for name in sorted(sections)))
