"""Read JSON of any size one object at a time: one a line, or the items of one long list."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from estimator.lengths import FloatArray
from workloads.traces.blocks import Block, Values
from workloads.traces.stream import WorkloadFileError, unreadable

T = TypeVar("T")

READ_CHARACTERS = 1 << 20
LONGEST_ITEM_CHARACTERS = 1 << 26
"""An item that has not ended by then is taken for a broken file."""

BATCH = 2_048

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


class _BrokenError(ValueError):
    """The text is not the JSON it is said to be."""


def read_line_blocks(path: Path, columns: Sequence[str], what: str) -> Iterator[Block]:
    """Yield the named keys of the objects on the lines of a file; a key that is missing has the value ``None``.

    Raises ``WorkloadFileError`` where the file is unreadable or a line holds no object.
    """
    before = 0
    for objects in batches(read_lines(path, what)):
        yield Block(path, before, {name: _values(one.get(name) for one in objects) for name in columns}, _as_numbers)
        before += len(objects)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists of at most ``BATCH``."""
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch


def read_lines(path: Path, what: str) -> Iterator[dict[str, Any]]:
    """Yield the object on each line; blank lines are skipped. Raises ``WorkloadFileError`` naming a bad line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (_object(number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise unreadable(path, error) from error
    except (UnicodeDecodeError, _BrokenError) as error:
        raise WorkloadFileError(f"{path} is not {what}: {error}") from error


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise _BrokenError(f"line {number}: {error.msg}") from error
    if not isinstance(found, dict):
        raise _BrokenError(f"line {number} holds no object")
    return found


def read_items(path: Path, what: str) -> Iterator[Any]:
    """Yield the items of a file that is one JSON list; raises ``WorkloadFileError`` naming the item that is broken."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Items(iter(lambda: file.read(READ_CHARACTERS), "")).decoded()
    except OSError as error:
        raise unreadable(path, error) from error
    except (UnicodeDecodeError, _BrokenError) as error:
        raise WorkloadFileError(f"{path} is not {what}: {error}") from error


class _Items:
    """The items of a JSON list that comes in blocks of text; holds little more than one of each at a time."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks, self._text, self._at, self._done = blocks, "", 0, 0

    def decoded(self) -> Iterator[Any]:
        """Yield the items."""
        self._take("[", "it does not begin with [")
        while self._next() != "]":
            if self._done:
                self._take(",", f"neither a comma nor ] follows item {self._done}")
            yield self._item()
            self._done += 1
        self._take("]", "it has no ]")
        if self._next():
            raise _BrokenError("something follows its ]")

    def _item(self) -> Any:
        """Decode one item; where the text may end within it, read as much again."""
        while True:
            self._next()
            try:
                item, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    raise _BrokenError(f"item {self._done + 1}: {error.msg}") from error
            else:
                if self._mark_at(_past_space(self._text, end)) in (",", "]") or not self._read_on():
                    self._at = end
                    return item

    def _take(self, mark: str, otherwise: str) -> None:
        if self._next() != mark:
            raise _BrokenError(otherwise)
        self._at += 1

    def _next(self) -> str:
        """Go on to what is no white space and return it; an empty text at the end."""
        self._at = _past_space(self._text, self._at)
        while self._at == len(self._text) and self._read_on():
            self._at = _past_space(self._text, self._at)
        return self._mark_at(self._at)

    def _mark_at(self, at: int) -> str:
        return self._text[at : at + 1]

    def _read_on(self) -> bool:
        """Read as much as is left, one block at least, and forget what is done with; at the end nothing changes."""
        left = len(self._text) - self._at
        if left > LONGEST_ITEM_CHARACTERS:
            return False
        more: list[str] = []
        while sum(map(len, more)) < max(1, left) and (block := next(self._blocks, "")):
            more.append(block)
        if more:
            self._text, self._at = "".join([self._text[self._at :], *more]), 0
        return bool(more)


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _values(values: Iterable[Any]) -> Values:
    found = list(values)
    kept = np.empty(len(found), dtype=object)
    kept[:] = found
    return kept


def _as_numbers(values: Values) -> FloatArray:
    """Return JSON numbers as they are; everything else is none, also a number in quotes."""
    return np.array([_as_number(each) for each in values], dtype=np.float64)


def _as_number(value: Any) -> float:
    try:
        return float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        return math.inf
