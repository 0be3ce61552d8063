"""Prompts as token ids, unique per request so that prefix caching cannot help: random ids, or slices of a text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from estimator.lengths import IntArray
from workloads.traces import WorkloadFileError

_FIRST_ID, _LAST_ID = 300, 2_000
"""Plain text in every common vocabulary: above byte and control tokens, below the smallest vocabulary (2,048)."""

UNIQUE_TOK = 4
"""A slice of a text begins with so many tokens of that text in random order: no two prompts start alike."""

MIN_TEXT_TOK = 256


class Prompts(Protocol):
    """What prompts are made of."""

    @property
    def kind(self) -> str:
        """What a prompt is, in words."""
        ...

    def draw(self, rng: np.random.Generator, length_tok: int) -> IntArray:
        """Return the ids of a prompt of exactly ``length_tok`` tokens, shape ``(length_tok,)``."""
        ...


@dataclass(frozen=True)
class RandomPrompts:
    """Token ids drawn uniformly; two prompts of 8 tokens practically never start alike."""

    kind: str = "random token ids"

    def draw(self, rng: np.random.Generator, length_tok: int) -> IntArray:
        """Return random ids."""
        return rng.integers(_FIRST_ID, _LAST_ID, size=length_tok)


RANDOM = RandomPrompts()


@dataclass(frozen=True, eq=False)
class TextPrompts:
    """Slices of a text at random places; one that reaches the text's end goes on at its beginning.

    ``ids`` are the text's tokens by the server's own tokenizer, shape ``(n,)``. The first four tokens of each prompt
    are the text's in random order, so that no two prompts share a prefix.
    """

    ids: IntArray
    kind: str

    def __post_init__(self) -> None:
        """Reject a text too short to be sliced."""
        if self.ids.size < MIN_TEXT_TOK:
            raise ValueError(f"the text has {self.ids.size} tokens; at least {MIN_TEXT_TOK} are needed")

    def draw(self, rng: np.random.Generator, length_tok: int) -> IntArray:
        """Return a slice of the text behind a few of its tokens in random order."""
        first = rng.choice(self.ids, size=min(UNIQUE_TOK, length_tok))
        start = int(rng.integers(self.ids.size))
        rest = np.take(self.ids, np.arange(start, start + length_tok - first.size), mode="wrap")
        return np.concatenate([first, rest])


@dataclass(frozen=True)
class PromptText:
    """A text file that prompts are to be made of, not yet tokenised."""

    name: str
    text: str
    sha256: str

    @property
    def kind(self) -> str:
        """What a prompt made of it is, in words."""
        return f"text: slices of {self.name}"

    def definition(self) -> dict[str, Any]:
        """Return what identifies the text in a run's manifest."""
        return {"kind": self.kind, "characters": len(self.text), "sha256": self.sha256}


def read_prompt_text(path: Path) -> PromptText:
    """Read a text in UTF-8; raises ``WorkloadFileError`` where that is not possible."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise WorkloadFileError(f"cannot read the text {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise WorkloadFileError(f"{path} is not a text in UTF-8: {error}") from error
    return PromptText(path.name, text, hashlib.sha256(raw).hexdigest())
