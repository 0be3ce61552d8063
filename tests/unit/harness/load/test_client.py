import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from harness.load.client import STREAM_INACTIVITY_S, Answer, _token_ids, complete, new_streams
from harness.server.api import new_session
from harness.server.metrics import parse_counters
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import ScriptedServer, scripted_server
from tests.fakes.waiting import in_loop, until_in_loop
from tests.unit.harness.load.fast_loop import run_fast

pytestmark = pytest.mark.timeout(60)

PROMPT = list(range(300, 340))
OUTPUT_TOK = 60


async def ask(server: ScriptedServer, session: aiohttp.ClientSession, *, stream: bool, tok: int = OUTPUT_TOK) -> Answer:
    return await complete(session, new_streams(), server.url, server.script.model, PROMPT, tok, stream=stream)


async def ask_once(script: Script, *, stream: bool) -> tuple[Answer, ScriptedServer]:
    async with scripted_server(script) as server, new_session() as session:
        return await ask(server, session, stream=stream), server


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "script",
    [
        Script(),
        Script(tok_per_chunk=13),
        Script(tok_per_chunk=1_000),
        Script(packet_bytes=11, tok_per_chunk=20),
        Script(packet_bytes=1, tok_per_chunk=1_000),
        Script(answer_delay_s=0.2),
        Script(fault="short"),
    ],
    ids=["plain", "merged chunks", "one chunk", "split packets", "byte by byte", "late", "short answer"],
)
def test_the_tokens_of_an_answer_are_those_the_server_counted(script: Script, stream: bool) -> None:
    answer, server = asyncio.run(ask_once(script, stream=stream))
    assert (answer.outcome, answer.error) == ("completed", None)
    assert answer.output_tok == server.engine.generated_tok
    assert answer.prompt_tok == server.engine.prompt_tok == len(PROMPT)
    assert answer.output_tok == (OUTPUT_TOK // 2 if script.fault == "short" else OUTPUT_TOK)
    assert (answer.first_mono_s is not None) == stream
    assert len(server.asked) == 1


@in_loop
async def test_split_packets_really_end_inside_events_and_characters() -> None:
    """Without this the test above could pass because the network put the pieces together again."""
    async with scripted_server(Script(packet_bytes=11, tok_per_chunk=20)) as server, new_session() as session:
        body = {"prompt": PROMPT, "max_tokens": OUTPUT_TOK, "stream": True}
        async with session.post(f"{server.url}/v1/completions", json=body) as response:
            packets = [packet async for packet in response.content.iter_any()]
    assert any(not packet.endswith(b"\n\n") for packet in packets)
    assert any(not _is_utf8(packet) for packet in packets)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("fault", "stream", "reason"),
    [
        ("http_500", False, "HTTP 500: .*scripted failure"),
        ("http_500", True, "HTTP 500: .*scripted failure"),
        ("drop", False, "ServerDisconnectedError"),
        ("drop", True, "hung up without an answer"),
        ("error_event", True, "no usage: .*scripted failure"),
        ("cut", False, "ClientPayloadError"),
        ("cut", True, "hung up in the middle of its answer"),
        ("no_done", True, "the stream was cut off before its end"),
        ("no_usage", False, "the answer has no usage"),
        ("no_usage", True, "the answer has no usage"),
        ("not_json", False, "no usage: <html>a proxy was here"),
    ],
)
def test_a_failure_is_an_answer_with_its_reason_after_one_request(fault: str, stream: bool, reason: str) -> None:
    answer, server = asyncio.run(ask_once(Script(fault=fault), stream=stream))
    assert answer.outcome == "error"
    assert answer.error is not None
    assert re.search(reason, answer.error), answer.error
    assert answer.output_tok is None
    assert len(server.asked) == 1


@in_loop
async def test_a_request_on_a_kept_connection_that_breaks_is_not_sent_again() -> None:
    async with scripted_server() as server, new_session() as session:
        first = await ask(server, session, stream=False)
        server.script = Script(fault="drop")
        second = await ask(server, session, stream=False)
    assert (first.outcome, second.outcome) == ("completed", "error")
    assert len(server.asked) == 2


@in_loop
async def test_nothing_listening_is_an_answer_with_its_reason() -> None:
    async with scripted_server() as server:
        gone = server.url
    async with new_session() as session:
        answer = await complete(session, new_streams(), gone, "scripted", PROMPT, OUTPUT_TOK, stream=False)
    assert answer.outcome == "error"
    assert "ClientConnectorError" in str(answer.error)


@in_loop
async def test_the_request_forces_the_output_length() -> None:
    async with scripted_server() as server, new_session() as session:
        await ask(server, session, stream=True)
    asked = server.asked[0]
    assert asked["max_tokens"] == asked["min_tokens"] == OUTPUT_TOK
    assert asked["ignore_eos"] is True
    assert asked["stream_options"] == {"include_usage": True}


@in_loop
async def test_a_cancelled_request_stops_the_server_generating() -> None:
    async with scripted_server(Script(tok_per_s=100)) as server, new_session() as session:
        task = asyncio.create_task(ask(server, session, stream=False, tok=10_000))
        await until_in_loop(lambda: server.engine.generated_tok > 0, "the first token")
        task.cancel()
        await until_in_loop(lambda: not server.engine.running and not server.open, "the server to drop the request")
        with pytest.raises(asyncio.CancelledError):
            await task
    assert 0 < server.engine.generated_tok < 10_000


@in_loop
async def test_the_stand_in_reports_the_counters_the_harness_reads() -> None:
    async with scripted_server() as server, new_session() as session:
        await ask(server, session, stream=True)
        async with session.get(f"{server.url}/metrics") as response:
            counters = parse_counters(await response.text())
    assert (counters.generation_tok, counters.prompt_tok) == (OUTPUT_TOK, len(PROMPT))
    assert (counters.running, counters.waiting, counters.ttft_count) == (0, 0, 1)
    assert None not in (counters.kv_usage_ratio, counters.preemptions, counters.itl_sum_s, counters.itl_count)


LONG_S = 1_100.0
"""Beyond the limit of a silent stream by 2 s of the clock: the loop runs so fast that pauses add up."""


@dataclass(frozen=True)
class LongAnswers:
    """What became of requests that take ``LONG_S`` seconds of the loop's clock."""

    whole: Answer
    streamed: Answer
    silent_stream: Answer
    with_default_session: str
    took_s: float


async def _ask_for_long() -> LongAnswers:
    slow = Script(tok_per_s=0.1, tick_s=10)
    began_s = asyncio.get_running_loop().time()
    async with (
        scripted_server(slow) as trickling,
        scripted_server(Script(answer_delay_s=LONG_S)) as silent,
        new_session() as session,
        aiohttp.ClientSession() as default,
    ):
        whole, streamed, silent_stream, with_default = await asyncio.gather(
            ask(silent, session, stream=False),
            ask(trickling, session, stream=True, tok=round(LONG_S / 10)),
            ask(silent, session, stream=True),
            _post_plainly(default, silent.url),
        )
    return LongAnswers(whole, streamed, silent_stream, with_default, asyncio.get_running_loop().time() - began_s)


async def _post_plainly(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.post(f"{url}/v1/completions", json={"prompt": PROMPT, "max_tokens": 1}) as response:
            return str(response.status)
    except asyncio.TimeoutError as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def long_answers() -> LongAnswers:
    return run_fast(_ask_for_long())


def test_a_request_of_more_than_300_s_is_not_cut_off(long_answers: LongAnswers) -> None:
    assert long_answers.took_s >= LONG_S
    assert (long_answers.whole.outcome, long_answers.whole.output_tok) == ("completed", OUTPUT_TOK)


def test_a_stream_of_more_than_300_s_is_not_cut_off(long_answers: LongAnswers) -> None:
    assert (long_answers.streamed.outcome, long_answers.streamed.output_tok) == ("completed", round(LONG_S / 10))


def test_a_default_session_would_have_cut_the_same_request_off(long_answers: LongAnswers) -> None:
    assert long_answers.with_default_session == "TimeoutError"


def test_a_stream_that_stays_silent_too_long_has_failed(long_answers: LongAnswers) -> None:
    assert LONG_S > STREAM_INACTIVITY_S
    assert long_answers.silent_stream.outcome == "error"
    assert long_answers.silent_stream.error == f"no byte for {STREAM_INACTIVITY_S:g} s"


@pytest.mark.parametrize(("make_session", "open_at_once"), [(new_session, 256), (aiohttp.ClientSession, 100)])
def test_256_requests_are_in_flight_together_unlike_with_a_default_session(
    make_session: Callable[[], Any], open_at_once: int
) -> None:
    """None is answered before so many have come; those that follow a default session's first are answered soon."""

    async def ask_256() -> ScriptedServer:
        endless = Script(tok_per_s=0.01)
        async with scripted_server(endless) as server, make_session() as session:
            requests = [asyncio.create_task(ask(server, session, stream=False)) for _ in range(256)]
            await until_in_loop(lambda: server.open >= open_at_once, f"{open_at_once} requests at once")
            server.engine.script = replace(endless, tok_per_s=10 * OUTPUT_TOK)
            answers = await asyncio.gather(*requests)
            assert {answer.output_tok for answer in answers} == {OUTPUT_TOK}
            return server

    server = asyncio.run(ask_256())
    assert server.most_open == open_at_once
    assert server.engine.generated_tok == 256 * OUTPUT_TOK


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([b'{"choices":[{"token_ids":[5,6]}]}', b'{"choices":[{"token_ids":[7]}]}', b'{"choices":[]}'], (5, 6, 7)),
        ([b'{"choices":[{"text":"a"}]}'], ()),
        ([b'{"choices":[{"token_ids":null}]}', b'{"choices":null}'], ()),
        ([b'{"choices":[{"token_ids":[5]}]}', b"not JSON"], ()),
        ([b"[1]"], ()),
    ],
    ids=["told", "left out", "null", "damaged", "no object"],
)
def test_ids_of_generated_tokens_are_read_whole_or_not_at_all(events, expected):
    assert _token_ids(events) == expected
