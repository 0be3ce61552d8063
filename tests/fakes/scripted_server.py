"""A stand-in for a vLLM server that generates at a scripted rate and misbehaves as scripted.

Its token counter is the oracle of the tests: it counts tokens as they are made, whatever becomes of the answer.
In a test's event loop use ``scripted_server``; as a process ``python -m tests.fakes.scripted_server --port P``
with the script as JSON in ``--script`` or in the environment variable SCRIPTED_SERVER.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.fakes.scripted_engine import CHARACTER, Engine, Script, Sequence, metrics_text

SCRIPT_VARIABLE = "SCRIPTED_SERVER"
CHILD_SAYS = "child that ignores SIGTERM: "
BACKLOG = 2_048
"""As vLLM listens: a shorter queue makes a burst of connections wait a second for the next try."""

_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(3600)"


class ScriptedServer:
    """The HTTP side: what was asked, how many requests are and were open, and the engine behind."""

    def __init__(self, script: Script) -> None:
        self.script, self.engine = script, Engine(script)
        self.asked: list[dict[str, Any]] = []
        self.words: dict[str, int] = {}
        self.open = self.most_open = 0
        self.url = ""

    def application(self) -> web.Application:
        """Return the routes of an OpenAI-compatible server."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/tokenize", self._tokenize)
        app.cleanup_ctx.append(self._generating)
        return app

    async def _generating(self, _: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.engine.run())
        yield
        task.cancel()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.script.healthy else 503)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "scripted"})

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.script.model, "object": "model", "max_model_len": self.script.context_tok}
        return web.json_response({"object": "list", "data": [model]})

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.script.metrics:
            raise web.HTTPNotFound
        return web.Response(text=metrics_text(self.engine))

    async def _tokenize(self, request: web.Request) -> web.Response:
        """Answer with the place of each word in the alphabet of all words seen, as ids from 300 on."""
        words = str((await request.json())["prompt"]).split()
        for word in words:
            self.words.setdefault(word, 300 + len(self.words))
        return web.json_response({"count": len(words), "tokens": [self.words[word] for word in words]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(self.script.answer_delay_s)
            return await self._answer(request, asked)
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        fault = self.script.fault
        if fault == "http_500":
            return web.json_response({"error": {"message": "scripted failure"}}, status=500)
        if fault == "drop":
            _hang_up(request)
        short = fault == "short" and asked["max_tokens"] > 1
        sequence = self.engine.add(asked["prompt"], asked["max_tokens"] // (2 if short else 1))
        tell_ids = self.script.token_ids and asked.get("return_token_ids", False)
        try:
            return await (self._stream if asked.get("stream") else self._whole)(request, sequence, tell_ids)
        finally:
            self.engine.abort(sequence)

    async def _whole(self, request: web.Request, sequence: Sequence, tell_ids: bool) -> web.StreamResponse:
        while not sequence.done:
            await _moved(sequence)
        text = json.dumps(_chunk(sequence, 0, tell_ids) | self._usage(sequence))
        if self.script.fault == "not_json":
            text = "<html>a proxy was here</html>"
        if self.script.fault != "cut":
            return web.Response(text=text, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(text))})
        await response.prepare(request)
        await response.write(text[: len(text) // 2].encode())
        return _hang_up(request)

    async def _stream(self, request: web.Request, sequence: Sequence, tell_ids: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told_tok = 0
        while not sequence.done:
            await _moved(sequence)
            if sequence.done or sequence.made_tok - told_tok >= self.script.tok_per_chunk:
                await self._send(response, _chunk(sequence, told_tok, tell_ids))
                told_tok = sequence.made_tok
            if self.script.fault == "error_event" and 2 * told_tok >= sequence.target_tok:
                await self._send(response, {"error": {"message": "scripted failure", "code": 500}})
                await self._send(response, "[DONE]")
                return response
            if self.script.fault == "cut" and 2 * told_tok >= sequence.target_tok:
                return _hang_up(request)
        if usage := self._usage(sequence):
            await self._send(response, {"choices": []} | usage)
        if self.script.fault != "no_done":
            await self._send(response, "[DONE]")
        return response

    def _usage(self, sequence: Sequence) -> dict[str, Any]:
        if self.script.fault == "no_usage":
            return {}
        total_tok = sequence.prompt_tok + sequence.made_tok
        counts = {"prompt_tokens": sequence.prompt_tok, "completion_tokens": sequence.made_tok}
        return {"usage": {**counts, "total_tokens": total_tok}}

    async def _send(self, response: web.StreamResponse, event: Any) -> None:
        text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        raw = f"data: {text}\n\n".encode()
        size = self.script.packet_bytes or len(raw)
        for start in range(0, len(raw), size):
            await response.write(raw[start : start + size])
            if self.script.packet_bytes:
                await asyncio.sleep(0.002)  # so that the reader sees this piece alone


async def _moved(sequence: Sequence) -> None:
    await sequence.moved.wait()
    sequence.moved.clear()


def _chunk(sequence: Sequence, told_tok: int, tell_ids: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "text": CHARACTER * (sequence.made_tok - told_tok), "finish_reason": None}
    if tell_ids:
        first = {"prompt_token_ids": list(sequence.prompt)} if told_tok == 0 else {}
        choice |= {"token_ids": sequence.made_ids[told_tok:], **first}
    return {"object": "text_completion", "choices": [choice]}


def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError("scripted hang-up")


@asynccontextmanager
async def scripted_server(script: Script | None = None) -> AsyncIterator[ScriptedServer]:
    """Serve on a free port in the running event loop."""
    server = ScriptedServer(script or Script())
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def main() -> None:
    """Serve as a process; options of vLLM that mean nothing here are ignored."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", default=os.environ.get(SCRIPT_VARIABLE, "{}"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options, _ = parser.parse_known_args()
    script = Script(**json.loads(options.script))
    if script.last_words:
        print(script.last_words, file=sys.stderr, flush=True)
    if script.exit_code >= 0:
        sys.exit(script.exit_code)
    if script.child:
        child = subprocess.Popen([sys.executable, "-c", _CHILD], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        print(f"{CHILD_SAYS}{child.pid}", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(script.listen_delay_s)
    app = ScriptedServer(script).application()
    web.run_app(
        app,
        host=options.host,
        port=options.port,
        handler_cancellation=True,
        shutdown_timeout=0.1,
        access_log=None,
        backlog=BACKLOG,
    )


if __name__ == "__main__":
    main()
