"""The few HTTP calls that are not load: health, identity, one real completion."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import aiohttp

from harness.errors import ServerError

API_KEY_VARIABLE = "HARNESS_API_KEY"
KEEP_ALIVE_S = 1.0
"""Idle connections are dropped well before vLLM drops them (5 s): a request sent on one that the server is closing
at that moment would fail, and requests are never retried."""

_SHORT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class ServerInfo:
    """Identity of a server; what it does not tell is ``None``."""

    url: str
    model: str
    max_model_len_tok: int | None
    version: str | None


def new_session() -> aiohttp.ClientSession:
    """Return a session with no connection limit and no total timeout; a key comes from the environment only."""
    key = os.environ.get(API_KEY_VARIABLE)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        headers={"Authorization": f"Bearer {key}"} if key else None,
    )


async def is_healthy(session: aiohttp.ClientSession, url: str) -> bool:
    """Return whether /health answers 200 now."""
    try:
        async with session.get(f"{url}/health", timeout=_SHORT) as response:
            return response.status == 200
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        return False


async def server_info(session: aiohttp.ClientSession, url: str) -> ServerInfo:
    """Ask a server which model it serves, its context length and its version."""
    models = await _get_json(session, f"{url}/v1/models")
    if not models.get("data"):
        raise ServerError(f"{url} serves no model", why="/v1/models lists none", fix="start it with a model")
    first = models["data"][0]
    try:
        version = (await _get_json(session, f"{url}/version")).get("version")
    except ServerError:
        version = None
    return ServerInfo(url, first["id"], first.get("max_model_len"), version)


async def complete_one_token(session: aiohttp.ClientSession, url: str, *, timeout_s: float) -> None:
    """Make the server generate one token, which proves that its engine works; raises ``ServerError`` otherwise."""
    info = await server_info(session, url)
    body = {"model": info.model, "prompt": [300, 301], "max_tokens": 1, "temperature": 0}
    try:
        async with session.post(
            f"{url}/v1/completions", json=body, timeout=aiohttp.ClientTimeout(total=timeout_s)
        ) as response:
            text = await response.text()
            if response.status != 200:
                raise ServerError(
                    f"{url} is up but cannot complete: HTTP {response.status}",
                    why=text[:300],
                    fix="read the server's log",
                )
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        raise ServerError(
            f"{url} is up but a one-token completion failed", why=_in_words(error), fix="read the server's log"
        ) from error


async def _get_json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    try:
        async with session.get(url, timeout=_SHORT) as response:
            if response.status != 200:
                raise ServerError(
                    f"{url} answered HTTP {response.status}",
                    why=(await response.text())[:300],
                    fix=f"check the address and, if it needs a key, set {API_KEY_VARIABLE}",
                )
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        raise ServerError(
            f"cannot reach {url}", why=_in_words(error), fix="check that the server runs there"
        ) from error


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
