"""One completion request: sent once, never retried, timed, and counted by the server's own usage.

Chunks are not tokens: under load a server merges several into one chunk, so tokens come from ``usage`` alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

STREAM_INACTIVITY_S = 900.0
"""A stream that says nothing for this long, its time in the server's queue included, has failed.

Requests that do not stream have no such limit: they are silent until they end, so their progress is judged by the
server's token counter.
"""

_TAIL_BYTES = 16_384
_STREAMED = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=STREAM_INACTIVITY_S)
_BULK = aiohttp.ClientTimeout(total=None, sock_connect=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended. ``outcome`` is completed, error or aborted; tokens are the server's usage.

    Times are monotonic seconds; the time of the first chunk is known only for streamed requests.
    """

    outcome: str
    end_mono_s: float
    first_mono_s: float | None = None
    prompt_tok: int | None = None
    output_tok: int | None = None
    error: str | None = None


async def complete(
    session: aiohttp.ClientSession, url: str, model: str, prompt: list[int], output_tok: int, *, stream: bool
) -> Answer:
    """Ask for exactly ``output_tok`` tokens after ``prompt``; a failure is an answer with its reason."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tok,
        "min_tokens": output_tok,
        "ignore_eos": True,
        "temperature": 0,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        async with session.post(f"{url}/v1/completions", json=body, timeout=_STREAMED if stream else _BULK) as response:
            if response.status != 200:
                return _failed(f"HTTP {response.status}: {(await response.text())[:200]}")
            return await (_read_stream(response) if stream else _read_whole(response))
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        return _failed(f"{type(error).__name__}: {error}")


async def _read_whole(response: aiohttp.ClientResponse) -> Answer:
    return _with_usage(await response.read(), first_mono_s=None)


async def _read_stream(response: aiohttp.ClientResponse) -> Answer:
    """Time the first chunk and keep only the tail, where the usage stands; packets may split events anywhere."""
    first_mono_s: float | None = None
    tail = b""
    async for packet in response.content.iter_any():
        if first_mono_s is None:
            first_mono_s = time.monotonic()
        tail = (tail + packet)[-_TAIL_BYTES:]
    events = [line.removeprefix(b"data:").strip() for line in tail.split(b"\n") if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        return _failed("the stream was cut off before its end")
    last = next((event for event in reversed(events) if event.startswith(b"{")), b"")
    return _with_usage(last, first_mono_s)


def _with_usage(raw: bytes, first_mono_s: float | None) -> Answer:
    end_mono_s = time.monotonic()
    try:
        usage = json.loads(raw)["usage"]
        return Answer(
            "completed",
            end_mono_s,
            first_mono_s,
            int(usage["prompt_tokens"]),
            int(usage["completion_tokens"]),
        )
    except (ValueError, KeyError, TypeError):
        return _failed(f"the answer has no usage: {raw[:200].decode(errors='replace')}")


def _failed(reason: str) -> Answer:
    return Answer("error", time.monotonic(), error=reason)
