"""What is wrong with a file, in one line for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_SHOWN = 3


def problems(error: ValueError) -> str:
    """Return the reason why a JSON document was refused, each wrong key with what is wrong about it.

    >>> try:
    ...     json.loads("half a docu")
    ... except ValueError as error:
    ...     problems(error)
    'it is not JSON: Expecting value: line 1 column 1 (char 0)'
    """
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in UTF-8: {error}"
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors()
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "; ".join([": ".join(filter(None, (_key(each["loc"]), message(each)))) for each in found[:_SHOWN]] + more)


def message(item: Mapping[str, Any]) -> str:
    """Return what one item of ``ValidationError.errors()`` says, without the name of the exception behind it."""
    return str(item["msg"]).removeprefix("Value error, ")


def _key(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc))
