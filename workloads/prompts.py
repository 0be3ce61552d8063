"""Prompts as token ids, unique per request so that prefix caching cannot help."""

from __future__ import annotations

import numpy as np

PROMPT_KIND = "random token ids"
_FIRST_ID, _LAST_ID = 300, 2_000
"""Plain text in every common vocabulary: above byte and control tokens, below the smallest vocabulary (2,048)."""


def random_prompt(rng: np.random.Generator, length_tok: int) -> list[int]:
    """Return ``length_tok`` token ids drawn uniformly; two prompts of 8 tokens practically never start alike."""
    ids: list[int] = rng.integers(_FIRST_ID, _LAST_ID, size=length_tok).tolist()
    return ids
