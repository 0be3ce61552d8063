"""One completion request: sent once, never retried, timed, and counted by the server's own usage.

Chunks are not tokens: under load a server merges several into one chunk, so tokens come from ``usage`` alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from array import array
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np

from harness.load.http_stream import Arrived, Received, StreamError, StreamPool
from harness.open_files import too_many
from harness.server.api import API_KEY_VARIABLE, KEEP_ALIVE_S

STREAM_INACTIVITY_S = 900.0
"""A stream that says nothing for this long, its time in the server's queue included, has failed.

Requests that do not stream have no such limit: they are silent until they end, so their progress is judged by the
server's token counter.
"""

_BULK = aiohttp.ClientTimeout(total=None, sock_connect=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended. ``outcome`` is completed, error or aborted; tokens are the server's usage.

    Times are monotonic seconds; the time of the first event, the packets and the gaps between them are known only for
    streamed requests, whole or cut off. Packets are not tokens: server and network merge several into one.
    """

    outcome: str
    end_mono_s: float
    first_mono_s: float | None = None
    prompt_tok: int | None = None
    output_tok: int | None = None
    error: str | None = None
    packets: int | None = None
    gap_p50_s: float | None = None
    gap_p99_s: float | None = None
    gap_max_s: float | None = None
    token_ids: tuple[int, ...] | None = None
    """Ids of the generated tokens, where asked for and told."""


def new_streams() -> StreamPool:
    """Return connections for streamed requests; a key comes from the environment only."""
    key = os.environ.get(API_KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return StreamPool(headers, keep_alive_s=KEEP_ALIVE_S, inactivity_s=STREAM_INACTIVITY_S)


async def complete(
    session: aiohttp.ClientSession,
    streams: StreamPool,
    url: str,
    model: str,
    prompt: list[int],
    output_tok: int,
    *,
    stream: bool,
    arrived: Arrived | None = None,
    want_ids: bool = False,
) -> Answer:
    """Ask for exactly ``output_tok`` tokens after ``prompt``; a failure is an answer with its reason.

    Raises ``NodeError`` where this process has no file left to open: it cannot hold the load that it is asked for.
    When the parts of a stream came is noted in ``arrived``, also where this is cancelled. ``want_ids`` asks for the ids
    of the generated tokens too (``return_token_ids``, which vLLM has since 0.10.2).
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tok,
        "min_tokens": output_tok,
        "ignore_eos": True,
        "temperature": 0,
    }
    if want_ids:
        body["return_token_ids"] = True
    address, arrived = f"{url}/v1/completions", arrived or Arrived()
    try:
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            received = await streams.post(address, json.dumps(body).encode(), arrived=arrived, whole=want_ids)
            return with_arrivals(_streamed(received, want_ids=want_ids), arrived)
        async with session.post(address, json=body, timeout=_BULK) as response:
            return _whole(response.status, await response.read(), want_ids=want_ids)
    except StreamError as error:
        return with_arrivals(_failed(str(error)), arrived)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        if isinstance(error, OSError) and (refusal := too_many(error)) is not None:
            raise refusal from error
        return _failed(f"{type(error).__name__}: {error}")


def with_arrivals(answer: Answer, arrived: Arrived) -> Answer:
    """Return the answer with when its parts came, as far as they did."""
    if not arrived.packets_s:
        return answer
    p50_s, p99_s, max_s = packet_gaps_s(arrived.packets_s) or (None, None, None)
    return replace(
        answer,
        first_mono_s=arrived.first_mono_s,
        packets=len(arrived.packets_s),
        gap_p50_s=p50_s,
        gap_p99_s=p99_s,
        gap_max_s=max_s,
    )


def packet_gaps_s(arrivals_s: array[float]) -> tuple[float, float, float] | None:
    """Return the median, the 99th percentile and the largest of the gaps between packets; one packet has none."""
    if len(arrivals_s) < 2:
        return None
    p50_s, p99_s, max_s = np.percentile(np.diff(np.frombuffer(arrivals_s)), (50, 99, 100)).tolist()
    return p50_s, p99_s, max_s


def _whole(status: int, body: bytes, *, want_ids: bool = False) -> Answer:
    end_mono_s = time.monotonic()
    if status != 200:
        return _failed(f"HTTP {status}: {body[:200].decode(errors='replace')}")
    if (usage := _usage(body)) is None:
        return _without_usage(body)
    return Answer("completed", end_mono_s, None, *usage, token_ids=_token_ids([body]) if want_ids else None)


def _streamed(received: Received, *, want_ids: bool = False) -> Answer:
    """Read the usage at the end of a stream, which must have its end."""
    if received.status != 200:
        return _failed(f"HTTP {received.status}: {received.tail[:200].decode(errors='replace')}")
    lines = received.tail.split(b"\n")
    events = [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        return _failed("the stream was cut off before its end")
    last = next((event for event in reversed(events) if event.startswith(b"{")), b"")
    if (usage := _usage(last)) is None:
        return _without_usage(last)
    ids = _token_ids(events[:-1]) if want_ids else None
    return Answer("completed", received.end_mono_s, None, *usage, token_ids=ids)


def _token_ids(events: list[bytes]) -> tuple[int, ...]:
    """Return the ids of generated tokens in an answer or its events, in order; none where the server does not tell."""
    ids: list[int] = []
    try:
        for event in events:
            for choice in json.loads(event).get("choices") or ():
                ids += map(int, choice.get("token_ids") or ())
    except (ValueError, TypeError, AttributeError):
        return ()
    return tuple(ids)


def _usage(raw: bytes) -> tuple[int, int] | None:
    """Return prompt and output tokens of an answer or event, or ``None`` if it does not tell."""
    try:
        usage = json.loads(raw)["usage"]
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    except (ValueError, KeyError, TypeError):
        return None


def _without_usage(raw: bytes) -> Answer:
    return _failed(f"the answer has no usage: {raw[:200].decode(errors='replace')}")


def _failed(reason: str) -> Answer:
    return Answer("error", time.monotonic(), error=reason)
