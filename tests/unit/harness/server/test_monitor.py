"""Scraping a server that answers with anything at all, and what is known when the scraping itself ends."""

import asyncio

import pytest

from harness.server.abilities import prefix_caching
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerMonitor, scrape
from tests.fakes.byte_server import CLOSE, byte_server
from tests.fakes.waiting import in_loop, until

OK = b"HTTP/1.1 200 OK\r\n"
METRICS = b'vllm:num_requests_running{engine="0"} 1\n'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "BadStatusLine"),
        (OK + b"Content-Length: 5000\r\n\r\n" + METRICS, "IncompleteRead"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1000\r\nvllm:num", "IncompleteRead"),
        (OK + b"X: " + 70_000 * b"a" + b"\r\n\r\n", "LineTooLong"),
        (OK + b"Content-Length: 2\r\n\r\n\xff\xff", "UnicodeDecodeError"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "HTTPError"),
        (CLOSE, "RemoteDisconnected"),
    ],
    ids=["not HTTP", "cut off", "chunk cut off", "endless line", "not text", "refused", "hung up"],
)
@in_loop
async def test_an_answer_that_cannot_be_read_is_a_row_with_its_reason(answer, error):
    async with byte_server(answer, CLOSE) as server:
        url = server.url.removesuffix("/v1/completions")
        row = await asyncio.to_thread(scrape, url, 3)
        assert await prefix_caching(url) is None
    assert (row.server, row.counters) == (3, ServerCounters())
    assert row.error.startswith(f"{error}: ")


def test_what_ended_the_scraping_is_raised_to_its_owner():
    def sink(rows):
        raise ZeroDivisionError(rows)

    monitor = ServerMonitor((), sink, period_s=0.01)
    monitor.check()
    monitor.start()
    until(lambda: not monitor._thread.is_alive(), "the sink to have ended the scraping")
    with pytest.raises(ZeroDivisionError):
        monitor.check()
    monitor.stop()
