"""Have servers to measure: launch them as planned or take running ones, and end what was launched, always."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from harness.errors import ConfigError, ServerError
from harness.plan import Plan, cpu_cores
from harness.power.base import DeviceIdentity
from harness.server.api import ServerInfo, complete_one_token, server_info
from harness.server.choose import downloaded_b
from harness.server.launch import LaunchedServer, ServerSpec, free_port, is_taken, vllm_argv
from results.schema import ServerDescription
from workloads.tiny_model import CONTEXT_TOK, TINY_MODEL, write_tiny_model

HOST = "127.0.0.1"
_TINY_ARGUMENTS = (
    "--served-model-name", TINY_MODEL, "--load-format", "dummy", "--dtype", "float32",
    "--max-model-len", str(CONTEXT_TOK), "--max-num-seqs", "32", "--enforce-eager",
)  # fmt: skip
# A server that computes on the cores the load client also needs takes both of two; the client must come first.
CPU_SERVER_NICENESS = 5
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # By default a server that stalls for 5 s closes connections on which requests already wait.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
}


class Servers:
    """The servers under load: what they are, and a check that those launched here still live."""

    def __init__(
        self, descriptions: tuple[ServerDescription, ...], info: ServerInfo, launched: list[LaunchedServer]
    ) -> None:
        """Hold ready servers that all serve ``info.model``."""
        self.descriptions, self.info, self._launched = descriptions, info, launched

    @property
    def urls(self) -> tuple[str, ...]:
        """Base addresses, in order."""
        return tuple(description.url for description in self.descriptions)

    def pids(self) -> frozenset[int] | None:
        """Return the ids of the servers' processes, or ``None`` for servers that were not launched here."""
        return frozenset(pid for server in self._launched for pid in server.pids()) if self._launched else None

    def check_alive(self) -> None:
        """Raise ``ServerError`` if a launched server has exited."""
        for server in self._launched:
            server.check_alive()


@asynccontextmanager
async def serving(
    plan: Plan, folder: Path, session: aiohttp.ClientSession, say: Callable[[str], None]
) -> AsyncIterator[Servers]:
    """Yield ready servers; on the way out end every process launched here unless it is to be kept."""
    if plan.config.url:
        yield await _attach(plan, session)
        return
    launched: list[LaunchedServer] = []
    keep = False
    try:
        for number, spec in enumerate(server_specs(plan, folder)):
            launched.append(LaunchedServer(spec, folder / f"server-{number}.log"))
            say(f"server {number} starting on {spec.url} (log: {launched[-1].log})")
        await asyncio.gather(*(_until_ready(server, plan, session) for server in launched))
        descriptions = tuple(_describe(server, gpus) for server, gpus in zip(launched, plan.replica_gpus, strict=True))
        yield Servers(descriptions, await _same_model(session, [server.url for server in launched]), launched)
        keep = plan.config.keep_server
    finally:
        for server in launched:
            if keep:
                server.release()
                say(f"kept: {server.url} (end it with: kill -- -{server.server_group})")
            else:
                server.close_pipe()
        if not keep:
            for server in launched:
                server.stop()


async def _until_ready(server: LaunchedServer, plan: Plan, session: aiohttp.ClientSession) -> None:
    model = "" if plan.model is None else plan.model.model
    await server.wait_ready(session, plan.config.ready_timeout, lambda: downloaded_b(model))


def server_specs(plan: Plan, folder: Path) -> list[ServerSpec]:
    """Return what to start for each replica."""
    if plan.model is None:
        return []
    asked = _asked_port(plan.config.server_arg, len(plan.replica_gpus))
    tiny = plan.model.model == TINY_MODEL
    model = str(write_tiny_model(folder / "model")) if tiny else plan.model.model
    extra = (*(_TINY_ARGUMENTS if tiny else ()), *plan.config.server_arg)
    specs = []
    for number, gpus in enumerate(plan.replica_gpus):
        port = asked or free_port(HOST)
        argv = vllm_argv(model, HOST, port, plan.model.tensor_parallel, extra)
        env = _environment(gpus, number, len(plan.replica_gpus), tiny=tiny)
        specs.append(ServerSpec(argv, env, HOST, port, niceness=0 if gpus else CPU_SERVER_NICENESS))
    return specs


def _environment(gpus: tuple[DeviceIdentity, ...], replica: int, replicas: int, *, tiny: bool) -> dict[str, str]:
    env = dict(_ENVIRONMENT)
    if tiny:
        env["HF_HUB_OFFLINE"] = "1"
    if gpus:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu.index) for gpu in gpus)
    else:
        env["VLLM_CPU_KVCACHE_SPACE"] = "2"
        if replicas > 1:
            env["VLLM_CPU_OMP_THREADS_BIND"] = cpu_cores(replica, replicas)
    return env


def _asked_port(server_arg: tuple[str, ...], replicas: int) -> int | None:
    """Return the port the user gave vLLM, which then also is where to look for it; it must be usable.

    Whatever listens on a taken port could answer in place of a server that has not yet found it taken.
    """
    words = " ".join(server_arg).replace("=", " ").split()
    if "--port" not in words:
        return None
    text = "".join(words[words.index("--port") + 1 :][:1])
    if not (text.isdigit() and 0 < int(text) <= 65_535) or replicas > 1:
        why = f"{replicas} replicas cannot share one port" if replicas > 1 else f"{text!r} is not a port"
        raise ConfigError("the --port in --server-arg cannot be used", why=why, fix="leave it out: a free one is found")
    if is_taken(int(text), HOST):
        raise ServerError(
            f"port {text} is taken", why="port in use",
            fix="free the port, or let the harness pick a free one by leaving --port out of --server-arg",
        )  # fmt: skip
    return int(text)


def _describe(server: LaunchedServer, gpus: tuple[DeviceIdentity, ...]) -> ServerDescription:
    return ServerDescription(
        url=server.url,
        argv=server.spec.argv,
        env=server.spec.env,
        niceness=server.spec.niceness,
        device_uuids=tuple(gpu.uuid for gpu in gpus),
    )


async def _attach(plan: Plan, session: aiohttp.ClientSession) -> Servers:
    urls = [url.rstrip("/") for url in plan.config.url]
    for url in urls:
        await complete_one_token(session, url, timeout_s=plan.config.ready_timeout)
    uuids = tuple(device.uuid for device in plan.devices)
    descriptions = tuple(ServerDescription(url=url, argv=(), env={}, device_uuids=uuids) for url in urls)
    return Servers(descriptions, await _same_model(session, urls), [])


async def _same_model(session: aiohttp.ClientSession, urls: list[str]) -> ServerInfo:
    infos = [await server_info(session, url) for url in urls]
    models = {info.model for info in infos}
    if len(models) > 1:
        raise ServerError(
            "the servers do not serve the same model", why=", ".join(f"{i.url}: {i.model}" for i in infos),
            fix="measure one model a run",
        )  # fmt: skip
    return infos[0]
