"""A small harness: launches the server it is told to, says which processes there are, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from harness.server.api import new_session
from harness.server.launch import LaunchedServer, ServerSpec


async def launch(argv: tuple[str, ...], port: int, log: Path) -> LaunchedServer:
    server = LaunchedServer(ServerSpec(argv, {}, "127.0.0.1", port), log, grace_s=0.5)
    async with new_session() as session:
        await server.wait_ready(session, timeout_s=20)
    return server


if __name__ == "__main__":
    port, log, *argv = sys.argv[1:]
    server = asyncio.run(launch(tuple(argv), int(port), Path(log)))
    print(json.dumps({"group": server.server_group}), flush=True)
    time.sleep(60)
