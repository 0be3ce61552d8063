"""Measure power without load: bare, before any server runs, and loaded, with the model resident."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from harness.analysis.devices import AFTER, BEFORE
from harness.cell import Bench
from harness.instruments import Instruments
from harness.plan import Plan
from results.store import RunReader

_CHECK_S = 1.0


async def measure_bare_idle(plan: Plan, instruments: Instruments, say: Callable[[str], None]) -> None:
    """Measure bare idle, before any server is launched, once a run; or note why it is not known."""
    if plan.no_bare_idle is not None:
        instruments.run.event("bare_idle_unknown", why=plan.no_bare_idle)
        say(f"bare idle is unknown: {plan.no_bare_idle}")
        return
    if "bare_idle_end" in {event["event"] for event in RunReader(instruments.run.folder).events()}:
        return
    say(f"bare idle for {plan.timing.idle_s:g} s")
    instruments.phase("bare_idle")
    await _settle_and_hold(instruments, "bare_idle", plan.timing.idle_s)


async def measure_loaded_idle(bench: Bench, idle_s: float, say: Callable[[str], None]) -> None:
    """Measure loaded idle: the model resident and warmed up by its readiness request, nothing in flight."""
    say(f"loaded idle for {idle_s:g} s")
    bench.instruments.phase("idle")
    await bench.wait_quiet()
    await _settle_and_hold(bench.instruments, "idle", idle_s, bench.check_servers)


async def _settle_and_hold(instruments: Instruments, name: str, idle_s: float, *checks: Callable[[], None]) -> None:
    await asyncio.sleep(idle_s / 4)
    instruments.run.event(f"{name}_start")
    instruments.note_devices(BEFORE)
    await _hold(idle_s, instruments.check, *checks)
    instruments.note_devices(AFTER)
    instruments.run.event(f"{name}_end")


async def _hold(seconds: float, *checks: Callable[[], None]) -> None:
    """Let time pass without load, doing ``checks`` each second: that servers and sensor live."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(_CHECK_S, left_s))
        for check in checks:
            check()
