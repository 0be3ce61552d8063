"""A stand-in server that costs next to nothing: every open request gets one token at each step, all at once.

It is what the load client's cost is measured against: one process, uvloop, the raw protocol, prepared bytes.
Run it as ``python -m tests.fakes.stepping_stub --steps-per-s 50``; it prints the port it listens on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

MODEL = "stepping"
_EVENT = {
    "id": "cmpl-4f1c2d7e9a0b4c5d8e7f6a5b4c3d2e1f",
    "object": "text_completion",
    "created": 1_760_000_000,
    "model": MODEL,
    "choices": [{"index": 0, "text": " word", "logprobs": None, "finish_reason": None, "stop_reason": None}],
    "usage": None,
}


def _event(content: Any) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    payload = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(payload), payload)


TOKEN = _event(_EVENT)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, answered step by step."""

    def __init__(self, stub: SteppingStub) -> None:
        self._stub, self._received = stub, b""
        self._left_tok = self._asked_tok = self._prompt_tok = 0
        self._streams = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._stub.open.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        if len(body) >= length:
            self._received = body[length:]
            self._answer(head.split(b" ", 2)[1].decode(), body[:length])

    def _answer(self, path: str, body: bytes) -> None:
        if path == "/v1/completions":
            asked = json.loads(body)
            self._left_tok = self._asked_tok = asked["max_tokens"]
            self._prompt_tok, self._streams = len(asked["prompt"]), bool(asked.get("stream"))
            if self._streams:
                self._transport.write(_STREAM_HEAD)
            self._stub.open[self] = None
        elif path == "/v1/models":
            self._whole({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 1_000_000}]})
        elif path == "/generated":
            self._whole({"generated_tok": self._stub.generated_tok, "late_s": self._stub.late_s})
        else:
            self._whole({})

    def _whole(self, content: Any) -> None:
        text = json.dumps(content).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text)
        self._transport.write(head + text)

    def step(self) -> None:
        """Give the request its next token."""
        self._left_tok -= 1
        if self._left_tok:
            if self._streams:
                self._transport.write(TOKEN)
            return
        del self._stub.open[self]
        made, asked = self._asked_tok, self._prompt_tok
        usage = {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}
        if self._streams:
            last = _event({**_EVENT, "choices": [], "usage": usage})
            self._transport.write(TOKEN + last + _event("[DONE]") + b"0\r\n\r\n")
        else:
            self._whole({**_EVENT, "usage": usage})


class SteppingStub:
    """The open requests, the tokens given so far, and how late the worst step came."""

    def __init__(self, steps_per_s: float) -> None:
        self._period_s = 1 / steps_per_s
        self.open: dict[_Connection, None] = {}
        self.generated_tok = 0
        self.late_s = 0.0

    async def run(self) -> None:
        """Serve until killed; the port goes to standard output."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=2_048)
        print(server.sockets[0].getsockname()[1], flush=True)
        deadline_s = loop.time()
        while True:
            deadline_s += self._period_s
            await asyncio.sleep(deadline_s - loop.time())
            self.late_s = max(self.late_s, loop.time() - deadline_s)
            self.generated_tok += len(self.open)
            for connection in tuple(self.open):
                connection.step()


@contextmanager
def stepping_stub(steps_per_s: float) -> Iterator[str]:
    """Serve in a process of its own; yields the base address."""
    argv = [sys.executable, "-m", "tests.fakes.stepping_stub", "--steps-per-s", str(steps_per_s)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Serve as a process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps-per-s", type=float, required=True)
    stub = SteppingStub(parser.parse_args().steps_per_s)
    uvloop.run(stub.run())


if __name__ == "__main__":
    main()
