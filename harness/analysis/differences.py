"""What differs between two descriptions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "absent"


@dataclass(frozen=True)
class Difference:
    """One key, dotted where it lies deeper, with its two values."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """Return the difference as a person reads it."""
        return f"{self.key}: {self.before!r} became {self.after!r}"


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], ignored: Iterable[str] = ()
) -> tuple[Difference, ...]:
    """Return every key whose values differ, in alphabetical order; nested mappings are compared key by key.

    A key in ``ignored`` is left out together with all below it.

    >>> [str(found) for found in differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})]
    ['a.c: 2 became 3', "d: 'absent' became 4"]
    """
    skipped = tuple(ignored)
    first, second = dict(_flat(before, "")), dict(_flat(after, ""))
    return tuple(
        Difference(key, first.get(key, MISSING), second.get(key, MISSING))
        for key in sorted(first.keys() | second.keys())
        if first.get(key, MISSING) != second.get(key, MISSING)
        and not any(key == name or key.startswith(f"{name}.") for name in skipped)
    )


def _flat(content: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
