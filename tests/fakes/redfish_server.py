"""A small management controller on the loopback address: sessions, chassis and power, as Redfish serves them."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = "/redfish/v1"
USER, PASSWORD = "watcher", "s3cret-word"


@dataclass
class Controller:
    """What the controller serves: resources by path. ``sessions`` holds the tokens of those logged in."""

    resources: dict[str, Any]
    url: str = ""
    sessions: set[str] = field(default_factory=set)
    logins: int = 0
    status: int = 200

    def get(self, path: str, token: str | None) -> tuple[int, Any]:
        if path == ROOT:
            return 200, {"Links": {"Sessions": {"@odata.id": f"{ROOT}/SessionService/Sessions"}}}
        if token not in self.sessions:
            return 401, {"error": {"message": "no session"}}
        if self.status != 200:
            return self.status, {}
        return (200, self.resources[path]) if path in self.resources else (404, {})


def chassis(name: str, kind: str, *, metrics: Any = None, power: Any = None, sensor: Any = None) -> dict[str, Any]:
    """Return the resources of one chassis by path."""
    path = f"{ROOT}/Chassis/{name}"
    body: dict[str, Any] = {"Id": name, "ChassisType": kind}
    resources: dict[str, Any] = {path: body}
    for key, content in (("EnvironmentMetrics", metrics), ("Power", power)):
        if content is not None:
            body[key] = {"@odata.id": f"{path}/{key}"}
            resources[f"{path}/{key}"] = content
    if sensor is not None:
        resources[f"{path}/Sensors/TotalPower"] = sensor
    return resources


def all_chassis(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return the resources of a controller with these chassis."""
    tops = [{"@odata.id": path} for part in parts for path in part if path.count("/") == 4]
    return {f"{ROOT}/Chassis": {"Members": tops}} | {path: body for part in parts for path, body in part.items()}


@contextmanager
def serve(resources: dict[str, Any], certificate: tuple[Path, Path] | None = None) -> Iterator[Controller]:
    """Serve over http, or over https with a certificate and its key."""
    controller = Controller(resources)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def _answer(self, status: int, body: Any, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._answer(*controller.get(self.path.rstrip("/"), self.headers.get("X-Auth-Token")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            controller.logins += 1
            if body != {"UserName": USER, "Password": PASSWORD}:
                self._answer(401, {"error": {"message": "wrong"}})
                return
            token = f"token-{controller.logins}"
            controller.sessions.add(token)
            self._answer(201, {}, X_Auth_Token=token, Location=f"{ROOT}/SessionService/Sessions/{token}")

        def do_DELETE(self) -> None:
            controller.sessions.discard(self.path.rsplit("/", 1)[-1])
            self._answer(204, b"")

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Keep quiet about clients that gave up."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    controller.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate for 127.0.0.1 and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key
