"""Serve metrics over HTTP for Prometheus to scrape, and the servers for it to discover."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.registry import Collector

from harness.errors import ConfigError
from harness.live.state import LiveState
from harness.metrics import discovery
from harness.metrics.address import parse_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class MetricsServer:
    """Serves a collector, and the servers of a live state on /servers, over HTTP until closed."""

    def __init__(self, collector: Collector, live: LiveState, address: str) -> None:
        """Listen on HOST:PORT; raises ``ConfigError`` if that cannot be done."""
        try:
            host, port = parse_address(address)
        except ValueError as error:
            raise ConfigError(f"cannot serve metrics on {address!r}: {error}") from error
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            self._server: WSGIServer
            self._thread: threading.Thread
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"cannot serve metrics on {address}",
                why=error.strerror or str(error),
                fix="choose another port with --metrics-address HOST:PORT, or 'none'",
            ) from error
        self._server.set_app(_with_servers(make_wsgi_app(registry), live))
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _with_servers(metrics: WSGIApplication, live: LiveState) -> WSGIApplication:
    """Return what answers for the servers on their path, and with the metrics on any other."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("GET", discovery.PATH):
            return metrics(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(discovery.target_groups(live)).encode()]

    return app
