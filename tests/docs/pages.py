"""The pages a person reads, and the shell commands on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCED = re.compile(r"^(\s*)```.*?^\s*```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FORMULA = re.compile(r"^[\w/]+( \[\w+\])? += ")


@dataclass(frozen=True)
class Line:
    """One shell line of a page; ``comment`` is what stands behind its #."""

    page: Path
    text: str
    comment: str

    @property
    def words(self) -> list[str]:
        """The line as a shell would split it."""
        return shlex.split(self.text)

    @property
    def program(self) -> str:
        """The program that the line runs, behind variables that it sets."""
        return next(word for word in self.words if not re.match(r"[A-Z_]+=", word))

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text}"


def prose(page: Path) -> str:
    """Return a page without fenced blocks and comments."""
    return _COMMENT.sub("", _FENCED.sub("", page.read_text()))


def shell_lines(page: Path) -> Iterator[Line]:
    """Yield the lines of a page's indented blocks, continued ones joined; formulas are left out."""
    blocks = re.findall(r"(?:\A|\n\n)((?: {4}\S.*\n?|   {4}.*\n?)+)", prose(page))
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        text, _, comment = line.strip().partition(" #")
        if text and not _FORMULA.match(text):
            yield Line(page, text.strip(), comment.strip())


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page."""
    return {slug(heading.strip()) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
