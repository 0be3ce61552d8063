"""Serve metrics over HTTP for Prometheus to scrape."""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from harness.errors import ConfigError


class MetricsServer:
    """Serves a collector over HTTP until closed."""

    def __init__(self, collector: Collector, address: str) -> None:
        """Listen on HOST:PORT; raises ``ConfigError`` if that cannot be done."""
        host, port = parse_address(address)
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
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT; raises ``ConfigError`` for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"metrics_address = {address!r} is not HOST:PORT", fix="for example 127.0.0.1:9477")
    return host.strip("[]"), int(port)
