import asyncio
import re
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.load.http_stream import TAIL_BYTES, Arrived, Received, StreamError, StreamPool, _Connection
from tests.fakes.byte_server import CLOSE, byte_server
from tests.fakes.waiting import in_loop, until_in_loop

pytestmark = pytest.mark.timeout(60)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = "data: 字\n\n".encode()


def new_pool(keep_alive_s: float = 5.0, inactivity_s: float = 20.0) -> StreamPool:
    return StreamPool({"x-test": "yes"}, keep_alive_s=keep_alive_s, inactivity_s=inactivity_s)


def chunk(payload: bytes, extension: bytes = b"") -> bytes:
    return f"{len(payload):X}".encode() + extension + b"\r\n" + payload + b"\r\n"


END = chunk(b"")


async def post(*pieces: bytes) -> Received:
    async with byte_server(*pieces) as server:
        return await new_pool().post(server.url, b"{}")


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([CHUNKED + chunk(EVENT) + END], EVENT),
        ([CHUNKED, chunk(EVENT), END], EVENT),
        ([CHUNKED + chunk(EVENT) * 3, END], EVENT * 3),
        ([CHUNKED, chunk(EVENT[:7]), chunk(EVENT[7:]), END], EVENT),
        ([CHUNKED + chunk(EVENT)[:1], chunk(EVENT)[1:2], chunk(EVENT)[2:9], chunk(EVENT)[9:-1], b"\n" + END], EVENT),
        ([CHUNKED + chunk(EVENT, b";name=value") + END], EVENT),
        ([CHUNKED + chunk(EVENT) + b"0\r\nTrailer: value\r\n\r\n"], EVENT),
        ([CHUNKED + chunk(EVENT) + b"0\r\nTrail", b"er: value\r\n\r", b"\n"], EVENT),
        ([CHUNKED + chunk(b"ends in 0\r\n"), chunk(EVENT), END], b"ends in 0\r\n" + EVENT),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n", EVENT, EVENT], EVENT * 2),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], b""),
        ([b"HTTP/1.1 200 OK\r\n\r\n", EVENT, EVENT, CLOSE], EVENT * 2),
        ([b"HTTP/1.0 200 OK\r\n\r\n" + EVENT, CLOSE], EVENT),
        ([CHUNKED[:5], CHUNKED[5:30], CHUNKED[30:-1], b"\n" + chunk(EVENT) + END], EVENT),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED + chunk(EVENT) + END], EVENT),
    ],
    ids=[
        "at once", "a chunk a packet", "merged chunks", "an event over two chunks", "a chunk over five packets",
        "chunk extension", "trailer", "split trailer", "content that looks like the end", "content length", "empty",
        "until closed", "HTTP/1.0", "slow headers", "interim answer",
    ],
)  # fmt: skip
def test_a_body_arrives_whole_however_it_is_framed_and_cut(pieces: list[bytes], body: bytes) -> None:
    received = asyncio.run(post(*pieces))
    assert received.status == 200
    assert received.tail == body
    assert (received.arrived.first_mono_s is not None) == (b"data:" in body)


class Recorder:
    """A transport that sends nothing."""

    def write(self, _: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


async def feed(pieces: list[bytes]) -> Received:
    connection = _Connection()
    connection.connection_made(cast("Any", Recorder()))
    exchange = asyncio.create_task(connection.exchange(b"", 60, Arrived()))
    await asyncio.sleep(0)
    for piece in pieces:
        assert not exchange.done()
        connection.data_received(piece)
    return await exchange


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(place % len(raw) for place in places)})
    return [raw[start:end] for start, end in pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(
    payloads=st.lists(st.binary(min_size=1, max_size=40) | st.just(b"0\r\n\r\n") | st.just(EVENT), max_size=12),
    places=st.lists(st.integers(min_value=0, max_value=10_000), max_size=60),
)
def test_no_cut_of_the_packets_changes_a_chunked_body(payloads: list[bytes], places: list[int]) -> None:
    raw = CHUNKED + b"".join(chunk(payload) for payload in payloads) + END
    received = asyncio.run(feed(cut(raw, places)))
    assert received.tail == b"".join(payloads)


def test_byte_by_byte_is_a_cut_too() -> None:
    raw = CHUNKED + chunk(EVENT) * 5 + END
    received = asyncio.run(feed([raw[at : at + 1] for at in range(len(raw))]))
    assert received.tail == EVENT * 5


def test_of_a_long_stream_the_end_is_kept() -> None:
    events = [f"data: {number}\n\n".encode() for number in range(20_000)]
    received = asyncio.run(feed([CHUNKED, *(chunk(event) for event in events), END]))
    assert received.tail == b"".join(events)[-TAIL_BYTES:]
    assert len(received.arrived.packets_s) == len(events) + 1


def test_the_first_event_is_the_first_data_not_a_comment_or_a_header() -> None:
    async def time_it() -> tuple[Received, float]:
        async with byte_server(CHUNKED, chunk(b": ping\n\n"), chunk(b"da"), chunk(b"ta: x\n\n"), END) as server:
            server.pause_s = 0.05
            began_s = asyncio.get_running_loop().time()
            return await new_pool().post(server.url, b"{}"), began_s

    received, began_s = asyncio.run(time_it())
    assert received.arrived.first_mono_s is not None
    assert received.arrived.first_mono_s - began_s >= 0.14
    assert received.arrived.first_mono_s == received.arrived.packets_s[2]
    assert received.end_mono_s == received.arrived.packets_s[-1]


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([CLOSE], "hung up without an answer"),
        ([CHUNKED + chunk(EVENT), CLOSE], "hung up in the middle"),
        ([CHUNKED + chunk(EVENT) + b"0\r\n", CLOSE], "hung up in the middle"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort", CLOSE], "hung up in the middle"),
        ([b"HTTP/1.1 200 OK\r\ncontent-len", CLOSE], "hung up in the middle"),
        ([CHUNKED + b"zz\r\n"], "b'zz' is not a size"),
        ([CHUNKED + b"-5\r\n"], "b'-5' is not a size"),
        ([CHUNKED + b"3\r\nfour\r\n"], "longer than it says"),
        ([CHUNKED + b"5" * 2_000], "a size line does not end"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], "not an HTTP/1.1 answer: b'SSH"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"], "coding gzip, chunked is not known"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], "content length b'-1' is not a number"),
        ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 12_000], "headers exceed 65536 bytes"),
    ],
)
def test_a_broken_answer_is_an_error_that_says_how(pieces: list[bytes], reason: str) -> None:
    with pytest.raises(StreamError, match=re.escape(reason)):
        asyncio.run(post(*pieces))


@in_loop
async def test_a_silent_server_is_given_up_but_a_slow_one_is_not() -> None:
    async with byte_server(CHUNKED, *[chunk(EVENT)] * 8, END) as slow, byte_server(b"", b"") as other:
        slow.pause_s = 0.2
        assert (await new_pool(inactivity_s=1.5).post(slow.url, b"{}")).tail == EVENT * 8
        other.pieces, other.pause_s = [CHUNKED + chunk(EVENT), END], 30.0
        with pytest.raises(StreamError, match=r"no byte for 1\.5 s"):
            await new_pool(inactivity_s=1.5).post(other.url, b"{}")


@in_loop
async def test_a_connection_is_reused_while_fresh_and_carries_what_was_asked() -> None:
    async with byte_server(CHUNKED + chunk(EVENT) + END) as server:
        pool = new_pool()
        for body in (b"{}", b'{"prompt": [1]}', b"{}"):
            assert (await pool.post(server.url, body)).tail == EVENT
        assert server.connections == 1
        head, _, body = server.requests[1].partition(b"\r\n\r\n")
        assert body == b'{"prompt": [1]}'
        assert head.startswith(b"POST /v1/completions HTTP/1.1\r\n")
        assert b"\r\nx-test: yes\r\n" in head
        assert f"\r\nhost: {server.url.split('/')[2]}\r\n".encode() in head
        pool.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
@in_loop
async def test_a_connection_the_server_will_close_is_not_reused(head: bytes) -> None:
    async with byte_server(head + chunk(EVENT) + END) as server:
        pool = new_pool()
        await pool.post(server.url, b"{}")
        await pool.post(server.url, b"{}")
        assert server.connections == 2


@in_loop
async def test_a_stale_connection_is_dropped_and_a_new_one_made() -> None:
    async with byte_server(CHUNKED + chunk(EVENT) + END) as server:
        pool = new_pool(keep_alive_s=0.02)
        await pool.post(server.url, b"{}")
        await asyncio.sleep(0.05)
        await pool.post(server.url, b"{}")
        assert server.connections == 2


@in_loop
async def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    async with byte_server(CHUNKED + chunk(EVENT) + END, CLOSE) as server:
        pool = new_pool()
        await pool.post(server.url, b"{}")
        (idle,) = pool._idle[server.url]
        await until_in_loop(lambda: not idle.reusable, "the end of the connection to be noticed")
        assert (await pool.post(server.url, b"{}")).tail == EVENT


@in_loop
async def test_bytes_after_the_end_of_an_answer_end_the_connection() -> None:
    async with byte_server(CHUNKED + chunk(EVENT) + END + b"HTTP/1.1 200 OK\r\n\r\n") as server:
        pool = new_pool()
        assert (await pool.post(server.url, b"{}")).tail == EVENT
        await pool.post(server.url, b"{}")
        assert server.connections == 2


@in_loop
async def test_a_cancelled_exchange_drops_its_connection() -> None:
    async with byte_server(CHUNKED + chunk(EVENT), END) as server:
        server.pause_s = 30
        pool = new_pool()
        task = asyncio.create_task(pool.post(server.url, b"{}"))
        await until_in_loop(lambda: server.requests, "the request")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.pieces, server.pause_s = [CHUNKED + chunk(EVENT) + END], 0
        assert (await pool.post(server.url, b"{}")).tail == EVENT
        assert server.connections == 2


@in_loop
async def test_an_address_that_is_not_http_is_refused() -> None:
    with pytest.raises(StreamError, match="is not an http or https address"):
        await new_pool().post("ftp://127.0.0.1/x", b"{}")
