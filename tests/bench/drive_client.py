"""Load the stepping stub with the harness's own client, as a process of its own, and say what it cost.

``python -m tests.bench.drive_client URL --streams N --share S --prompt-tok P --output-tok L --warm-s W --seconds T
[--core C]`` prints one JSON document: tokens the stub gave, requests it answered, CPU
seconds of this process and event-loop lag between the end of the warm-up and the end, and tokens from the start.
Without ``--seconds`` it loads nothing: that is its start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

import aiohttp
import numpy as np
import uvloop

from estimator.lengths import fixed_lengths
from harness.load.health import TickRow
from harness.load.processes import LoadSpec, make_load
from harness.load.request import RequestRow, Target
from harness.server.api import new_session
from tests.fakes.stepping_stub import MODEL

PROMPT_TOK = 8


async def generated_tok(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/generated") as response:
        return int((await response.json())["generated_tok"])


async def drive(options: argparse.Namespace) -> dict[str, object]:
    rows: list[RequestRow] = []
    ticks: list[TickRow] = []
    spec = LoadSpec(
        Target((options.url,), MODEL), fixed_lengths(options.prompt_tok, options.output_tok), "bench", options.share
    )
    async with new_session() as session:
        load = make_load(spec, session, np.random.default_rng(1), rows.append, ticks.extend)
        if not options.seconds:
            return {}
        first_tok = await generated_tok(session, options.url)
        load.grow_to(options.streams)
        await asyncio.sleep(options.warm_s)
        warm_tok, warm_cpu_s, warm_s = await generated_tok(session, options.url), time.process_time(), time.monotonic()
        await asyncio.sleep(options.seconds)
        end_tok, end_cpu_s, end_s = await generated_tok(session, options.url), time.process_time(), time.monotonic()
        load.check()
        await load.stop(drain=False)
    lags_s = [tick.lag_s for tick in ticks if tick.t_mono_s >= warm_s]
    return {
        "all_tok": end_tok - first_tok,
        "warm_tok": end_tok - warm_tok,
        "warm_cpu_s": end_cpu_s - warm_cpu_s,
        "warm_tok_per_s": (end_tok - warm_tok) / (end_s - warm_s),
        "lag_p99_s": float(np.percentile(lags_s, 99)),
        "lag_max_s": max(lags_s),
        "warm_requests": sum(
            row.answer.outcome == "completed" and warm_s <= row.answer.end_mono_s <= end_s for row in rows
        ),
        "errors": load.errors,
        "wrong_counts": sum(
            row.answer.output_tok != row.output_tok_asked for row in rows if row.answer.outcome == "completed"
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--prompt-tok", type=int, default=PROMPT_TOK)
    parser.add_argument("--output-tok", type=int, default=1)
    parser.add_argument("--warm-s", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    print(json.dumps(uvloop.run(drive(options))))


if __name__ == "__main__":
    main()
