"""What a person sees of a moment: the right words and figures, within the width and the height there is."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from harness.console.live_view import LiveView, view_lines
from harness.console.snapshot import facts_of, take
from harness.live.course import Look, Span
from harness.live.state import LiveState
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from tests.unit.harness.console.live_moments import NOW_S, measuring, plan_on

SIZES = [(80, 24), (140, 45), (48, 12)]
LOG = tuple(
    f"{n:6.1f} s  line {n} of the log, which goes on for longer than any terminal is wide {'x' * 120}"
    for n in range(50)
)


def shot_of(count=0, **kinds):
    live, plan = measuring(count, **kinds)
    return take(live, facts_of(plan, "stress"), LOG, NOW_S)


def shown(shot, width=80, height=24, **console):
    """Return what a terminal of this size is sent for one frame, as lines without control codes."""
    file = io.StringIO()
    screen = Console(file=file, width=width, height=height, force_terminal=True, highlight=False, **console)
    screen.print(LiveView(shot), end="")
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("count", [0, 1, 8])
def test_a_frame_fits_the_terminal(count, width, height):
    lines = shown(shot_of(count, hot=(3,)), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_warnings_that_find_no_room_are_counted():
    few, many = (replace(shot_of(), warnings=tuple(f"warning {n}" for n in range(count))) for count in (3, 6))
    last = [[line for line in shown(shot) if line.startswith("!")][-1].split(maxsplit=1)[1] for shot in (few, many)]
    assert [words.strip() for words in last] == ["warning 2", "warning 2 (and 3 more)"]


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
def test_simulated_power_cannot_be_missed(width, height):
    lines = shown(shot_of(0), width, height)
    assert lines[1].strip() == "SIMULATED POWER: no watt and no joule here is measured"
    with_joules = [line for line in lines if re.match(r"(total|J/token|Wh/query) ", line)]
    assert len(with_joules) == 3
    assert all("simulated" in line for line in with_joules)
    assert any(line.startswith("── energy") and "source SIMULATED, boundary node_modelled" in line for line in lines)


METER = ("ipmi", "node", 2345.0)


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
def test_a_node_meter_beside_simulated_gpus_is_told_apart_from_them(width, height):
    simulated = shot_of(0)
    figure = replace(simulated.figures[0], source="ipmi", boundary="node x PUE")
    facts = replace(simulated.facts, boundary="node")
    lines = shown(replace(simulated, facts=facts, meters=(METER,), figures=(figure,)), width, height)
    assert lines[1].strip() == "SIMULATED GPU POWER; metered: ipmi [node], with J/token and Wh"
    assert any(line.startswith("── energy") and "source ipmi, boundary node" in line for line in lines)
    with_joules = [line for line in lines if re.match(r"(J/token|Wh/query) ", line)]
    assert len(with_joules) == 2
    assert not any("simulated" in line for line in with_joules)
    assert any(line.startswith("total") and "[simulated; node " in line for line in lines)


def test_a_meter_that_gives_no_joule_of_the_run_is_said_to_give_watts_alone():
    lines = shown(replace(shot_of(0), meters=(METER,)))
    assert lines[1].strip() == "SIMULATED GPU POWER and joules; metered: ipmi [node] watts alone"
    assert all("simulated" in line for line in lines if re.match(r"(J/token|Wh/query) ", line))


def test_measured_power_names_its_sensor_and_never_says_simulated():
    text = "\n".join(shown(shot_of(8), 140, 45))
    assert "simulated" not in text.lower()
    assert "source nvml, boundary node_modelled" in text
    assert "node by model hgx-h100" in text


def test_the_view_of_a_cell_says_where_the_run_stands():
    lines = shown(shot_of(0))
    assert lines[0].startswith("harness stress  some/model  launched here · workload traditional")
    assert lines[0].endswith("3:20")
    assert lines[2] == "✓ launch    ✓ idle    ✓ calibrate    ✓ predict    ▶ measure 2/2"
    assert lines[3].startswith("measure 15x (cell 2 of 2)  0:30 gone, 0:12 to 0:50 left  ███")
    assert lines[4] == "this run: 0:12 to 0:50 left (estimate)"
    text = "\n".join(lines)
    for words in (
        "server    running 60 of 64 █████████░  waiting 3  KV 42% ████░░░░░░",
        "TPS       2,000 tok/s over 10 s",
        "requests  2,231 done, 0 failed, 64 cut off at the ends of loads",
        "client    1.0 ms late (p99 of 10 s), 12% of a core",
        "J/token   0.2034 ± 4.1% (95%) simulated ",
        "target ±2.0%",
        "looks: ±9.7% → ±4.1%; next in 12 s; open: precision not reached",
        "Wh/query  1x 0.001138, predicted 0.0009781 (simulated, node_modelled x PUE)",
    ):
        assert words in text


def test_after_a_restart_tps_is_not_known_yet_and_the_counter_is_not_called_missing():
    live, plan = measuring()
    live.servers_scraped([ServerRow(NOW_S + 0.5, NOW_S + 0.5, 0, ServerCounters(generation_tok=7.0))])
    text = "\n".join(shown(take(live, facts_of(plan, "stress"), now_s=NOW_S + 0.5)))
    assert "TPS       not known yet: a server began, or began again, within the last 10 s" in text


def test_the_log_takes_the_height_that_is_left_and_shows_its_end():
    lines = shown(shot_of(0), 80, 30)
    assert len(lines) == 30
    rule = next(i for i, line in enumerate(lines) if line.startswith("── log"))
    assert [line[:18] for line in lines[rule + 1 :]] == [line[:18] for line in LOG[-(29 - rule) :]]


def test_the_interval_closes_on_its_target():
    def filled(half_width_rel):
        look = Look(half_width_rel <= 0.02, 20.0, 0.2, half_width_rel, ())
        (line,) = [line for line in shown(shot_of(0, looks=(look,))) if line.startswith("J/token")]
        return line.count("█"), line.count("░")

    assert [filled(half) for half in (0.6, 0.5, 0.1, 0.02, 0.01)] == [(0, 14), (0, 14), (7, 7), (14, 0), (14, 0)]


def test_eight_gpus_stand_side_by_side_with_a_bar_against_their_limit():
    lines = shown(shot_of(8), 140, 45)
    row = next(line for line in lines if line.startswith("power"))
    assert row.count("500 W ") == 3
    assert "GPU 0 500 W ███████" in row
    assert "61°C 97%" in row
    assert sum(line.count("500 W ") for line in lines) == 8


def test_throttling_is_named_with_how_many_gpus_it_holds():
    lines = shown(shot_of(8, hot=(3, 5)), 140, 45)
    (row,) = [line for line in lines if line.startswith("throttled")]
    assert "sw_power_cap on 6 of 8, hw_thermal_slowdown on 2 of 8" in row
    assert row.endswith("longest on one GPU so far: sw_power_cap 60 s, hw_thermal_slowdown 60 s")
    assert "hw_thermal_slowdown 60 s" in row
    assert [line for line in lines if line.startswith("!")] == [
        "!         GPU 3: hw_thermal_slowdown",
        "!         GPU 5: hw_thermal_slowdown",
    ]


def test_what_is_unknown_is_called_unknown():
    shot = take(LiveState(), facts_of(plan_on(0), "stress"))
    text = "\n".join(shown(shot))
    for words in ("no model yet", "none ready yet", "GPUs unknown W  node unknown W", "time left unknown", "none yet"):
        assert words in text
    text = "\n".join(shown(replace(shot, model="some/model")))
    for words in ("running unknown", "KV unknown", "TPS       unknown: no token counter"):
        assert words in text
    look = Look(False, 20.0, None, None, ("power_gap",))
    assert "J/token   unknown in a 20 s window: power gap" in "\n".join(shown(shot_of(0, looks=(look,))))


def test_time_that_depends_on_the_measurement_is_a_range():
    shot = replace(shot_of(0), phase_left=Span(0.0, 90.0), run_left=Span(200.0, None))
    lines = [str(line) for line in view_lines(shot, 80, 24)]
    assert "0:30 gone, at most 1:30 left" in lines[3]
    assert lines[4] == "this run: at least 3:20 left (estimate)"


def test_without_colour_nothing_is_lost():
    file = io.StringIO()
    Console(file=file, width=80, height=24, force_terminal=True, no_color=True).print(LiveView(shot_of(8)), end="")
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7]|38|48)[;m]", file.getvalue())
    assert re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines() == shown(shot_of(8))


def test_lines_keep_their_own_style():
    file = io.StringIO()
    Console(file=file, width=80, height=24, force_terminal=True, color_system="standard").print(LiveView(shot_of(0)))
    banner, log_line = (
        next(line for line in file.getvalue().splitlines() if words in line) for words in ("SIMULATED POWER", "line 49")
    )
    assert banner.startswith("\x1b[1;7;33m")
    assert log_line.startswith("\x1b[2m")
