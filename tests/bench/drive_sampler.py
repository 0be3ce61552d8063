"""Sample NVML while this process loads the stepping stub flat out, and say how late the readings were.

``python -m tests.bench.drive_sampler HOW URL SECONDS`` with HOW one of thread and process, and the stand-in driver in
LD_LIBRARY_PATH; prints one JSON document. The client keeps to one core; the sampling may use any.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np
import uvloop

from harness.power.base import PowerRow
from harness.power.nvml import open_nvml
from harness.power.nvml_sampler import NvmlSampler
from harness.power.sampler import PowerSampler
from tests.bench.drive_client import PROMPT_TOK, drive

STREAMS = 256
WARM_S = 3.0


def main(how: str, url: str, seconds: float) -> None:
    options = argparse.Namespace(
        url=url, streams=STREAMS, share=0.0, prompt_tok=PROMPT_TOK, output_tok=1, warm_s=WARM_S, seconds=seconds
    )
    source, rows = open_nvml(), list[PowerRow]()
    with (NvmlSampler if how == "process" else PowerSampler)(source, rows.extend) as sampler:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of this thread alone
        client = uvloop.run(drive(options))
    late_s = np.array([row.late_s for row in rows if row.uuid == source.devices[0].uuid])
    source.close()
    lateness_s = {f"p{q}": float(np.percentile(late_s, q)) for q in (50, 99, 100)}
    print(
        json.dumps(
            {
                "gpus": len(source.devices),
                "rounds": len(late_s),
                "missed": sampler.missed,
                "lateness_s": lateness_s,
                "cpu_share": sampler.cpu_s / (rows[-1].t_mono_s - rows[0].t_mono_s),
                "client_requests_per_s": client["warm_tok_per_s"],
                "client_cpu_share": client["warm_cpu_s"] / seconds,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
