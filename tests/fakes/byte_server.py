"""A server that answers each request with given pieces of bytes, each in a packet of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CLOSE = b""
"""In place of a piece: hang up."""

_APART_S = 0.003


@dataclass
class ByteServer:
    """What it answers, what it was asked, and how many connections were made."""

    pieces: Sequence[bytes]
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    pause_s: float = _APART_S

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                for piece in self.pieces:
                    if piece == CLOSE:
                        return
                    writer.write(piece)
                    await asyncio.sleep(self.pause_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def byte_server(*pieces: bytes) -> AsyncIterator[ByteServer]:
    """Serve on a free port in the running event loop."""
    answering = ByteServer(pieces)
    server = await asyncio.start_server(answering.serve, "127.0.0.1", 0)
    answering.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/completions"
    try:
        yield answering
    finally:
        server.close()
