"""Progress goes to standard error as lines, as a view or not at all, and nothing that was said is lost."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.console.snapshot import facts_of
from harness.console.terminal import Progress, can_show
from harness.live.state import LiveState
from tests.unit.harness.console.live_moments import measuring


class Terminal(io.TextIOWrapper):
    """A file that says it is a terminal."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self):
        return True

    @property
    def text(self):
        return self.buffer.getvalue().decode()


@pytest.fixture
def terminal(monkeypatch):
    """A terminal, to be made standard error by the test: pytest takes it for itself between set-up and test."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def no_facts():
    raise AssertionError("nothing is to be shown")


def test_lines_to_a_file_carry_the_seconds_since_the_start(capsys):
    progress = Progress()
    with progress.showing(no_facts) as watch:
        watch(LiveState())
        progress.say("loaded idle for 8 s")
        seen_at_once = capsys.readouterr().err
    assert re.fullmatch(r" +0\.0 s  loaded idle for 8 s\n", seen_at_once)


def test_quiet_says_nothing_even_to_a_terminal(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(quiet=True)
    with progress.showing(no_facts) as watch:
        watch(LiveState())
        progress.say("loaded idle for 8 s")
    progress.say("done")
    assert terminal.text == ""


@pytest.mark.parametrize("ends", ["in order", "by an error", "by Ctrl-C"])
def test_the_view_gives_the_screen_back_and_leaves_the_lines(terminal, monkeypatch, ends):
    monkeypatch.setattr(sys, "stderr", terminal)
    live, plan = measuring(0)
    errors = {"by an error": ValueError, "by Ctrl-C": KeyboardInterrupt}
    progress = Progress()
    try:
        with progress.showing(lambda: facts_of(plan, "stress")) as watch:
            watch(live)
            progress.say("said meanwhile")
            print("a library's warning", file=sys.stderr)
            assert "said meanwhile" not in terminal.text
            if ends in errors:
                raise errors[ends]
    except (ValueError, KeyboardInterrupt):
        assert ends in errors
    assert sys.stderr is terminal
    during, after = terminal.text.split("\x1b[?1049l")
    assert during.count("\x1b[?1049h") == 1
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert re.fullmatch(r" +\d\.\d s  said meanwhile\r?\n +\d\.\d s  a library's warning\r?\n", after)


@pytest.mark.parametrize(
    ("env", "encoding", "can"),
    [
        ({}, "utf-8", True),
        ({"NO_COLOR": "1"}, "utf-8", True),
        ({"TERM": "dumb"}, "utf-8", False),
        ({}, "ascii", False),
    ],
    ids=["terminal", "no colour", "dumb", "ascii"],
)
@pytest.mark.usefixtures("terminal")
def test_the_view_needs_a_terminal_that_can_draw_in_place(monkeypatch, env, encoding, can):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Terminal(encoding))
    assert can_show(Console(stderr=True)) is can


def test_forced_colour_makes_no_terminal_of_a_file(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with Path(os.devnull).open("w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stderr", file)
        assert can_show(Console(stderr=True)) is False
