"""Conversations as ShareGPT's are shared: one JSON list of ``{"conversations": [{"from": ..., "value": TEXT}, ...]}``.

As in ``vllm bench serve``, the first turn is the prompt and the second the answer, whoever spoke; later turns are not
read, and a conversation of fewer than two turns is no load. Unlike there, short and long ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.traces.documents import batches, read_items
from workloads.traces.stream import Chunk, WorkloadFileError, usable
from workloads.traces.tokens import TokenCounter

ONE_TURN = "fewer_than_two_turns"


def read_sharegpt(path: Path, counter: TokenCounter) -> Iterator[Chunk]:
    """Yield one request a conversation; raises ``WorkloadFileError`` naming a conversation of another form."""
    before = 0
    for items in batches(read_items(path, "a list of conversations")):
        turns = [_first_turns(path, before + number, item) for number, item in enumerate(items, 1)]
        pairs = [pair for pair in turns if pair is not None]
        prompts, answers = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
        yield usable(
            None,
            counter.count(prompts, prompt=True),
            counter.count(answers, prompt=False),
            {ONE_TURN: len(items) - len(pairs)},
        )
        before += len(items)


def _first_turns(path: Path, number: int, item: Any) -> tuple[str, str] | None:
    turns = item.get("conversations") if isinstance(item, dict) else None
    if not isinstance(turns, list):
        raise WorkloadFileError(f"{path}: conversation {number} has no list called conversations")
    if len(turns) < 2:
        return None
    texts = [turn["value"] for turn in turns[:2] if isinstance(turn, dict) and isinstance(turn.get("value"), str)]
    if len(texts) < 2:
        raise WorkloadFileError(f"{path}: one of the first two turns of conversation {number} has no text called value")
    return texts[0], texts[1]
