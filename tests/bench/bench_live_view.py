"""What the live view costs of a core: the client that loads the servers shares the node with it."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console
from rich.live import Live

from harness.console.live_screen import FRAMES_PER_S
from harness.console.live_view import LiveView
from harness.console.snapshot import facts_of, take
from tests.unit.harness.console.live_moments import NOW_S, measuring

LIMIT_SHARE = 0.02
FRAMES = 200


@pytest.mark.parametrize(("gpus", "width", "height"), [(1, 80, 24), (8, 140, 45)])
def test_the_view_takes_little_of_a_core(gpus: int, width: int, height: int) -> None:
    live, plan = measuring(gpus)
    facts, log = facts_of(plan, "stress"), ["   1.0 s  a line of the log"] * 60
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system="truecolor")
    view = Live(
        get_renderable=lambda: LiveView(take(live, facts, log, NOW_S)),
        console=console,
        auto_refresh=False,
        screen=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    view.start(refresh=True)
    began_s = time.thread_time()
    for _ in range(FRAMES):
        view.refresh()
    share = (time.thread_time() - began_s) / FRAMES * FRAMES_PER_S
    view.stop()
    print(f"\n{gpus} GPU(s), {width} x {height}: {share:.2%} of a core at {FRAMES_PER_S:g} frames a second")
    assert share < LIMIT_SHARE
