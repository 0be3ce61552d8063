"""The report of a two-hour run with 8 GPUs at 10 Hz and 100,000 requests: under 20 s of a core, under 8 MB."""

import resource
import subprocess
import sys
import time

import pytest

from tests.bench.long_run import write_long_run
from tests.bench.record import record
from tests.paths import ROOT

MOST_S, MOST_BYTES = 20.0, 8_000_000

pytestmark = pytest.mark.timeout(300)


def test_a_long_run_makes_a_small_page_quickly(tmp_path):
    folder, page = write_long_run(tmp_path / "long"), tmp_path / "report.html"
    start_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "report", str(folder), "--out", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s, after = time.monotonic() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stderr
    size = page.stat().st_size
    figures = f"{took_s:.1f} s of a core (limit {MOST_S:g}), {wall_s:.1f} s by the clock, {size / 1e6:.2f} MB (limit 8)"
    print(f"\n{figures}")
    assert size < MOST_BYTES
    assert took_s < MOST_S
    record("Report of two hours, 8 GPUs at 10 Hz, 100,000 requests", [figures])
