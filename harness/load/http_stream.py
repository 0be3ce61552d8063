"""Receive streamed HTTP/1.1 answers at the least cost a token: what arrives is framed and timed, not parsed.

A saturated server sends every stream a packet at each of its steps, so the client's cost is the cost of a packet. Here
that is one timestamp and the chunk framing (RFC 9112, section 7.1); only the end of the stream is kept, because that
is where the usage stands.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

TAIL_BYTES = 16_384
"""What is kept of a stream: its last events, or the whole of an error message."""

_CONNECT_S = 30.0
_MAX_HEAD_BYTES = 65_536
_MAX_SIZE_LINE_BYTES = 1_024
_LOOKS = 10
_UNTIL_CLOSED = -1


class StreamError(Exception):
    """An answer did not arrive whole, or is not HTTP/1.1."""


@dataclass(slots=True)
class Arrived:
    """When the parts of an answer came so far (monotonic seconds); known also of one that is cut off.

    ``first_mono_s`` is when the first event came, ``packets_s`` when each packet of the body did. A packet is what
    the socket gave at once: it may hold less than one event or several, and an event several tokens.
    """

    first_mono_s: float | None = None
    packets_s: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class Received:
    """A whole answer: its status, the end of its body, when its parts came and when it ended (monotonic seconds)."""

    status: int
    tail: bytes
    arrived: Arrived
    end_mono_s: float


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.reusable = True
        self.idle_since_s = 0.0
        self._answer: asyncio.Future[Received] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def exchange(self, request: bytes, inactivity_s: float, arrived: Arrived, *, whole: bool = False) -> Received:
        """Send ``request`` and return the answer; raises ``StreamError``. Cancelling it drops the connection."""
        loop = asyncio.get_running_loop()
        self._start()
        self._arrived = arrived
        self._keeps_all = whole
        self._answer = loop.create_future()
        self._transport.write(request)
        self._watch = loop.call_later(inactivity_s / _LOOKS, self._look, inactivity_s, 0, 0)
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._watch.cancel()
            self._answer = None

    def close(self) -> None:
        """Drop the connection at once."""
        self.reusable = False
        self._transport.abort()

    def _start(self) -> None:
        self._head = self._partial = b""
        self._status = 0
        self._in_body = self._chunked = self._ends_chunk = self._trailing = False
        self._left = 0
        self._pieces: list[bytes] = []
        self._kept_bytes = self._packets = 0

    def _look(self, inactivity_s: float, seen: int, silent: int) -> None:
        """Fail an exchange that has been silent for so long; noticed at most a tenth later."""
        silent = silent + 1 if self._packets == seen else 0
        if silent >= _LOOKS:
            self._fail(f"no byte for {inactivity_s:g} s")
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(inactivity_s / _LOOKS, self._look, inactivity_s, self._packets, silent)

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        if self._answer is None or self._answer.done():
            self.close()  # bytes that nobody asked for: what follows could not be told apart
            return
        self._packets += 1
        try:
            if not self._in_body:
                data = self._take_head(data)
                if not self._in_body:
                    return
            if data:
                self._arrived.packets_s.append(now_s)
            finished = self._take_chunks(data) if self._chunked else self._take_plain(data)
            if self._arrived.first_mono_s is None and b"data:" in b"".join(self._pieces):
                self._arrived.first_mono_s = now_s
            if finished:
                self._finish(now_s)
        except StreamError as error:
            self._fail(str(error))

    def _take_head(self, data: bytes) -> bytes:
        """Read status and headers once they are whole; returns what follows them."""
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            if len(self._head) > _MAX_HEAD_BYTES:
                raise StreamError(f"the headers exceed {_MAX_HEAD_BYTES} bytes")
            return b""
        self._head = b""
        status_line, *lines = head.split(b"\r\n")
        words = status_line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise StreamError(f"not an HTTP/1.1 answer: {status_line[:80]!r}")
        self._status = int(words[1])
        if 100 <= self._status < 200:  # an interim answer: the real one follows
            return self._take_head(rest) if rest else b""
        self._take_headers(_headers(lines), old=words[0] == b"HTTP/1.0")
        self._in_body = True
        return rest

    def _take_headers(self, headers: Mapping[bytes, bytes], *, old: bool) -> None:
        connection = headers.get(b"connection", b"").lower()
        if b"close" in connection or (old and b"keep-alive" not in connection):
            self.reusable = False
        coding = headers.get(b"transfer-encoding", b"").lower()
        length = headers.get(b"content-length")
        if coding == b"chunked":
            self._chunked = True
        elif coding:
            raise StreamError(f"the transfer coding {coding.decode(errors='replace')} is not known")
        elif self._status in (204, 304):
            self._left = 0
        elif length is None:
            self._left, self.reusable = _UNTIL_CLOSED, False
        elif length.isdigit():
            self._left = int(length)
        else:
            raise StreamError(f"the content length {length[:20]!r} is not a number")

    def _take_chunks(self, data: bytes) -> bool:
        """Unframe what arrived; returns whether the answer is whole. A frame cut by the packet's end waits."""
        if self._partial:
            data, self._partial = self._partial + data, b""
        at, end = 0, len(data)
        while not self._trailing:
            if self._left:
                piece = data[at : at + self._left]
                self._keep(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return False
                self._ends_chunk = True
            if self._ends_chunk:
                if end - at < 2:
                    self._partial = data[at:]
                    return False
                if data[at : at + 2] != b"\r\n":
                    raise StreamError("a chunk is longer than it says")
                at += 2
                self._ends_chunk = False
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                return self._wait_for_line(data[at:])
            self._left = _chunk_size(data[at:line_end])
            self._trailing = self._left == 0
            at = line_end + 2
        return self._skip_trailers(data[at:])

    def _skip_trailers(self, data: bytes) -> bool:
        while True:
            line, found, rest = data.partition(b"\r\n")
            if not found:
                return self._wait_for_line(line)
            if not line:
                self.reusable = self.reusable and not rest
                return True
            data = rest

    def _wait_for_line(self, partial: bytes) -> bool:
        if len(partial) > _MAX_SIZE_LINE_BYTES:
            raise StreamError("the chunk framing is broken: a size line does not end")
        self._partial = partial
        return False

    def _take_plain(self, data: bytes) -> bool:
        if self._left == _UNTIL_CLOSED:
            self._keep(data)
            return False
        self.reusable = self.reusable and len(data) <= self._left
        self._keep(data[: self._left])
        self._left -= min(len(data), self._left)
        return self._left == 0

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._kept_bytes += len(piece)
        if self._kept_bytes > 4 * TAIL_BYTES and not self._keeps_all:
            tail = b"".join(self._pieces)[-TAIL_BYTES:]
            self._pieces, self._kept_bytes = [tail], len(tail)

    def _finish(self, now_s: float) -> None:
        if self._answer is not None and not self._answer.done():
            body = b"".join(self._pieces)
            tail = body if self._keeps_all else body[-TAIL_BYTES:]
            self._answer.set_result(Received(self._status, tail, self._arrived, now_s))

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(StreamError(reason))

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        if self._answer is None:
            return
        if error is None and self._in_body and not self._chunked and self._left == _UNTIL_CLOSED:
            self._finish(time.monotonic())
            return
        where = "in the middle of its answer" if self._packets else "without an answer"
        self._fail(f"the server hung up {where}" + (f": {error}" if error else ""))


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if size < 0:
        raise StreamError(f"the chunk framing is broken: {digits[:20]!r} is not a size")
    return size


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    tls: bool
    head: bytes


class StreamPool:
    """Connections for streamed requests: reused while fresh, never limited in number, never retried."""

    def __init__(self, headers: Mapping[str, str], *, keep_alive_s: float, inactivity_s: float) -> None:
        """Send ``headers`` with every request; drop connections idle for ``keep_alive_s``."""
        self._headers, self._keep_alive_s, self._inactivity_s = dict(headers), keep_alive_s, inactivity_s
        self._addresses: dict[str, _Address] = {}
        self._idle: dict[str, list[_Connection]] = {}

    async def post(self, url: str, body: bytes, *, arrived: Arrived | None = None, whole: bool = False) -> Received:
        """Send a JSON ``body``; raises ``StreamError`` or ``OSError``, also where the server stays silent.

        The ``tail`` is the end of the answer, or all of it if the ``whole`` is asked for. When its parts came is noted
        in ``arrived``, however the exchange ends.
        """
        if url not in self._addresses:
            self._addresses[url] = _address(url, self._headers)
        address = self._addresses[url]
        connection = self._take_idle(url) or await _connect(address)
        request = b"%scontent-length: %d\r\n\r\n%s" % (address.head, len(body), body)
        received = await connection.exchange(request, self._inactivity_s, arrived or Arrived(), whole=whole)
        if connection.reusable:
            connection.idle_since_s = asyncio.get_running_loop().time()
            self._idle.setdefault(url, []).append(connection)
        else:
            connection.close()
        return received

    def close(self) -> None:
        """Drop every idle connection."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _take_idle(self, url: str) -> _Connection | None:
        """Return the freshest idle connection; the stale ones are dropped."""
        kept = self._idle.get(url, [])
        oldest_s = asyncio.get_running_loop().time() - self._keep_alive_s
        fresh = [connection for connection in kept if connection.reusable and connection.idle_since_s > oldest_s]
        for connection in kept:
            if connection not in fresh:
                connection.close()
        self._idle[url] = fresh
        return fresh.pop() if fresh else None


def _address(url: str, headers: Mapping[str, str]) -> _Address:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise StreamError(f"{url} is not an http or https address")
    tls = parts.scheme == "https"
    all_headers = {
        "host": parts.netloc.rpartition("@")[2],
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        **headers,
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items()), ""]
    return _Address(parts.hostname, parts.port or (443 if tls else 80), tls, "\r\n".join(lines).encode("latin-1"))


async def _connect(address: _Address) -> _Connection:
    context = ssl.create_default_context() if address.tls else None
    opening = asyncio.get_running_loop().create_connection(_Connection, address.host, address.port, ssl=context)
    try:
        _, connection = await asyncio.wait_for(opening, _CONNECT_S)
    except asyncio.TimeoutError as error:
        raise StreamError(f"no connection within {_CONNECT_S:g} s") from error
    return connection
