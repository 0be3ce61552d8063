import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from pathlib import Path

import psutil
import pytest

from harness.errors import ServerError
from harness.server.api import new_session, server_info
from harness.server.launch import LaunchedServer, ServerSpec, free_port, is_taken, vllm_argv
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import CHILD_SAYS
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).parents[4]
HOST = "127.0.0.1"
GRACE_S = 0.5
FROM_ROOT = {"PYTHONPATH": str(ROOT)}


def argv(script: Script, port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.fakes.scripted_server", "--port", str(port), "--script", script.to_json())


class Launcher:
    """Launches scripted servers and, at the end of a test, ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers: list[LaunchedServer] = []

    def __call__(self, script: Script, port: int | None = None, niceness: int = 0) -> LaunchedServer:
        port = port or free_port()
        log = self._folder / f"server-{len(self.servers)}.log"
        spec = ServerSpec(argv(script, port), FROM_ROOT, HOST, port, niceness)
        server = LaunchedServer(spec, log, grace_s=GRACE_S)
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in self.servers:
            server.stop()


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.server.launch._POLL_S", 0.05)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


def wait_ready(server: LaunchedServer, timeout_s: float = 20, downloaded_b: Callable[[], int] = lambda: 0) -> str:
    """Wait as the harness does and return the model that the server names."""

    async def wait() -> str:
        async with new_session() as session:
            await server.wait_ready(session, timeout_s, downloaded_b)
            return (await server_info(session, server.url)).model

    return asyncio.run(wait())


def failure(server: LaunchedServer, timeout_s: float = 20) -> ServerError:
    with pytest.raises(ServerError) as caught:
        wait_ready(server, timeout_s)
    return caught.value


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    return [process.pid for process in psutil.process_iter() if lives_in(process, group)]


def lives_in(process: psutil.Process, group: int) -> bool:
    """Return whether a process of the group still lives; a zombie only waits for its parent to look."""
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def child_pid(log: Path) -> int:
    line = next(line for line in log.read_text().splitlines() if line.startswith(CHILD_SAYS))
    return int(line.removeprefix(CHILD_SAYS))


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_server_is_ready_once_it_completes_a_request(launch: Launcher) -> None:
    server = launch(Script(model="made-up", listen_delay_s=0.5))
    assert wait_ready(server) == "made-up"
    server.check_alive()
    server.stop()
    assert members(server.server_group) == []
    assert not is_taken(server.spec.port)


def test_health_alone_is_not_readiness(launch: Launcher) -> None:
    error = failure(launch(Script(fault="http_500")))
    assert "is up but cannot complete: HTTP 500" in error.what
    assert "scripted failure" in error.what


def test_a_server_that_never_answers_a_completion_is_not_ready(launch: Launcher) -> None:
    error = failure(launch(Script(answer_delay_s=60)), timeout_s=8)
    assert "a one-token completion failed" in error.what


@pytest.mark.parametrize(
    ("last_words", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out of memory"),
        ("OSError: nowhere/at-all is not a local folder and is not a valid model identifier", "bad model"),
        ("api_server.py: error: unrecognized arguments: --frobnicate", "vLLM does not know an argument"),
        ("something nobody has seen before", "not recognised in the log"),
    ],
)
def test_a_server_that_exits_at_start_is_an_error_with_cause_and_the_end_of_its_log(
    launch: Launcher, last_words: str, cause: str
) -> None:
    server = launch(Script(exit_code=3, last_words=last_words))
    began_s = time.monotonic()
    error = failure(server, timeout_s=50)
    assert time.monotonic() - began_s < 25
    assert "the server exited with code 3" in error.what
    assert last_words in error.what
    assert str(server.log) in error.what
    assert error.why.startswith(cause)
    assert cause.startswith("not recognised") or last_words in error.why
    assert error.fix


@pytest.mark.parametrize("script", [Script(healthy=False), Script(listen_delay_s=60)], ids=["unhealthy", "deaf"])
def test_a_server_that_never_becomes_ready_is_an_error_after_the_timeout(launch: Launcher, script: Script) -> None:
    began_s = time.monotonic()
    error = failure(launch(script), timeout_s=2)
    assert 2 <= time.monotonic() - began_s < 20
    assert "not ready after 2 s" in error.what
    assert "--ready-timeout" in error.fix


def test_the_timeout_counts_from_the_end_of_the_download(launch: Launcher) -> None:
    """The server listens 2 s after its start, when the last of its weights has come."""
    server, sizes = launch(Script(model="made-up", listen_delay_s=2)), count()
    assert wait_ready(server, 1.5, lambda: -1 if is_taken(server.spec.port) else next(sizes)) == "made-up"


def test_a_download_that_has_ended_gives_no_more_time(launch: Launcher) -> None:
    sizes = chain(range(5), repeat(5))
    with pytest.raises(ServerError, match=r"not ready after 0\.5 s since its weights were last downloaded"):
        wait_ready(launch(Script(healthy=False)), 0.5, lambda: next(sizes))


def test_a_taken_port_is_named_as_the_cause(launch: Launcher) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert is_taken(port)
        server = launch(Script(), port)
        until(lambda: members(server.server_group) == [], "the server to give up")
        assert (failure(server).why or "").startswith("port in use: ")
    assert not is_taken(port)


def test_another_server_on_the_port_is_not_taken_for_ours(launch: Launcher) -> None:
    """The other one answers health and completions while ours has already failed."""
    other = launch(Script(model="the other"))
    wait_ready(other)
    ours = launch(Script(model="ours"), other.spec.port)
    until(lambda: members(ours.server_group) == [], "our server to give up")
    assert (failure(ours).why or "").startswith("port in use: ")
    assert wait_ready(other) == "the other"


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    server = LaunchedServer(ServerSpec(("/no/such/command",), {}, HOST, free_port()), tmp_path / "log", GRACE_S)
    assert "/no/such/command" in failure(server).what
    server.stop()


def test_a_server_that_dies_later_is_noticed(launch: Launcher) -> None:
    server = launch(Script())
    wait_ready(server)
    victim = next(pid for pid in members(server.server_group) if pid != server.server_group)
    os.kill(victim, signal.SIGKILL)

    def dead() -> bool:
        try:
            server.check_alive()
        except ServerError as error:
            assert f"exited with code {128 + signal.SIGKILL}" in error.what
            return True
        return False

    until(dead, "the death to be noticed")


@pytest.mark.parametrize("niceness", [0, 5])
def test_a_server_leaves_the_cores_to_others_first_where_it_is_told_to(launch: Launcher, niceness: int) -> None:
    server = launch(Script(child=True), niceness=niceness)
    wait_ready(server)
    expected = min(19, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
    assert [psutil.Process(pid).nice() for pid in members(server.server_group)] == 3 * [expected]
    autogroup = Path(f"/proc/{server.server_group}/autogroup")
    if autogroup.exists() and autogroup.read_text():
        assert autogroup.read_text().split()[-1] == str(niceness)


def test_stopping_ends_even_a_grandchild_that_ignores_being_asked(launch: Launcher) -> None:
    server = launch(Script(child=True))
    wait_ready(server)
    child = child_pid(server.log)
    os.kill(child, signal.SIGTERM)
    assert len(members(server.server_group)) == 3, "the guard, the server and its child"
    assert server.pids() == set(members(server.server_group))
    assert {server.server_group, child} < server.pids()
    server.stop()
    assert members(server.server_group) == []
    assert not is_alive(child)


def test_stopping_twice_is_harmless(launch: Launcher) -> None:
    server = launch(Script())
    server.stop()
    server.stop()
    assert members(server.server_group) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_and_children_die_with_the_harness(tmp_path: Path, number: signal.Signals) -> None:
    port, log = free_port(), tmp_path / "server.log"
    command = [sys.executable, "-m", "tests.unit.harness.server.launching_parent", str(port), str(log)]
    with subprocess.Popen(
        [*command, *argv(Script(child=True), port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as harness:
        assert harness.stdout is not None
        group = json.loads(harness.stdout.readline())["group"]
        child = child_pid(log)
        assert len(members(group)) == 3
        harness.send_signal(number)
    until(lambda: members(group) == [] and not is_alive(child), "server and child to die")
    assert not is_taken(port)


def test_a_released_server_goes_on_without_the_harness(launch: Launcher) -> None:
    server = launch(Script())
    wait_ready(server)
    server.release()
    try:
        (pid,) = members(server.server_group)
        assert psutil.Process(pid).name().startswith("python")
        assert is_taken(server.spec.port)
    finally:
        os.killpg(server.server_group, signal.SIGKILL)
    until(lambda: members(server.server_group) == [], "the released server to end")


def test_two_free_ports_can_be_bound_and_are_not_taken() -> None:
    for _ in range(2):
        port = free_port()
        assert not is_taken(port)


def test_the_command_names_model_address_and_width_and_ends_with_the_users_arguments() -> None:
    command = vllm_argv("a/model", HOST, 8_000, 2, ("--max-num-seqs", "64"))
    assert command[:3] == (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    text = " ".join(command[3:])
    assert text == f"--model a/model --host {HOST} --port 8000 --tensor-parallel-size 2 --max-num-seqs 64"
