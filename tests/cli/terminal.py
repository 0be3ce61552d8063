"""Run the command line in a pseudo-terminal and keep everything it sends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

LEAVE_SCREEN = "\x1b[?1049l"
ENTER_SCREEN = "\x1b[?1049h"
_HOME = "\x1b[H"
_STYLES = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]")


class InTerminal:
    """The command line with a terminal of a given size as its standard streams."""

    def __init__(self, *words: str, cwd: Path, env: dict[str, str], columns: int = 80, rows: int = 24) -> None:
        """Start it; a session of its own keeps signals away from the tests."""
        master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *words],
            cwd=cwd,
            env={
                **{k: v for k, v in env.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")},
                "TERM": "xterm-256color",
            },
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._master, self._sent, self._gone = master, bytearray(), threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._gone.is_set():
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(self._master, 65_536)
            except OSError:  # how a pseudo-terminal says that nobody is left to write
                break
            self._sent += part
        os.close(self._master)

    def hang_up(self) -> None:
        """Take the terminal away, as a lost connection does: no more can be written, and SIGHUP says so."""
        self._gone.set()
        self._reader.join()
        self.process.send_signal(signal.SIGHUP)

    @property
    def text(self) -> str:
        """Return everything sent so far."""
        return self._sent.decode(errors="replace")

    def ended(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    def frames(self) -> list[list[str]]:
        """Return the frames drawn on the screen of the view, as lines without styles."""
        view = self.text.partition(ENTER_SCREEN)[2].partition(LEAVE_SCREEN)[0]
        frames = [_STYLES.sub("", frame).split("\r\n") for frame in view.split(_HOME)]
        return [frame for frame in frames if len(frame) > 1]

    def left_behind(self) -> str:
        """Return what stands on the terminal when the view has gone, without styles."""
        return _STYLES.sub("", self.text.partition(LEAVE_SCREEN)[2])
