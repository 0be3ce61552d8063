"""What a server can do and how it is set, asked once before its load: prefix caching, token ids, its tokenizer."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from harness.errors import ServerError
from harness.server.monitor import UNREADABLE, read_metrics
from workloads.prompts import PromptText, TextPrompts

_CACHE_CONFIG = "vllm:cache_config_info"
_ASK_TIMEOUT = aiohttp.ClientTimeout(total=60)
_PIECE_CHARACTERS = 50_000
"""A text is tokenised in pieces of this size, so that no answer grows without limit."""


async def prefix_caching(url: str) -> bool | None:
    """Return whether a server reuses the KV of a repeated prefix, as vLLM says on /metrics; ``None`` if it does not."""
    try:
        text = await asyncio.to_thread(read_metrics, url)
    except UNREADABLE:
        return None
    return parse_prefix_caching(text)


def parse_prefix_caching(text: str) -> bool | None:
    """Return what a /metrics answer says of prefix caching; ``None`` where it says nothing, or engines differ."""
    lines = [line for line in text.splitlines() if line.startswith(_CACHE_CONFIG + "{")]
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    said = {sample.labels.get("enable_prefix_caching") for family in families for sample in family.samples}
    return {"True": True, "False": False}.get(said.pop() or "") if len(said) == 1 else None


async def returns_token_ids(session: aiohttp.ClientSession, url: str, model: str) -> bool:
    """Return whether a server tells the ids of the tokens it generates (``return_token_ids``), by asking for two."""
    body = {"model": model, "prompt": [300, 301], "max_tokens": 2, "min_tokens": 2, "ignore_eos": True,
            "temperature": 0, "return_token_ids": True}  # fmt: skip
    answer = await _post(session, f"{url}/v1/completions", body)
    choices = (answer or {}).get("choices") or [{}]
    return len(choices[0].get("token_ids") or ()) == 2


async def tokenized(session: aiohttp.ClientSession, url: str, model: str, text: PromptText) -> TextPrompts:
    """Return a text as prompts in tokens of the server's own tokenizer; raises ``ServerError`` where it has none."""
    ids: list[int] = []
    for start in range(0, len(text.text), _PIECE_CHARACTERS):
        piece = text.text[start : start + _PIECE_CHARACTERS]
        body = {"model": model, "prompt": piece, "add_special_tokens": False}
        answer = await _post(session, f"{url}/tokenize", body)
        tokens = None if answer is None else answer.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise ServerError(
                f"{url} does not tokenise the text {text.name}",
                why="it has no /tokenize as vLLM's, and prompts need exact lengths in its own tokens",
                fix="use --prompts random",
            )
        ids += tokens
    try:
        return TextPrompts(np.array(ids, dtype=np.int64), text.kind)
    except ValueError as error:
        raise ServerError(f"the text {text.name} cannot be sliced into prompts", why=str(error)) from error


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON object that answers ``body``, or ``None`` where there is none: the ability is then missing."""
    try:
        async with session.post(url, json=body, timeout=_ASK_TIMEOUT) as response:
            answer = await response.json(content_type=None) if response.status == 200 else None
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
