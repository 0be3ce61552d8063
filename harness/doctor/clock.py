"""Is the wall clock kept to others'? Asked of the kernel, then of systemd; nothing is set."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from harness.doctor.node import NoAnswerError, Node

STA_UNSYNC = 0x0040  # linux/timex.h
TIMEDATECTL_LIMIT_S = 5.0


class _Timex(ctypes.Structure):
    """``struct timex`` of sys/timex.h as far as it is read; the rest is room. ``modes`` 0 reads and sets nothing."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


@dataclass(frozen=True)
class WallClock:
    """Whether the wall clock is synchronised (None: not told), who says so, and its greatest error in s if told."""

    synchronised: bool | None
    source: str
    max_error_s: float | None = None


def wall_clock(node: Node) -> WallClock:
    """Ask the kernel, which a container may forbid, then timedatectl."""
    kernel = _kernel()
    if kernel is not None:
        return kernel
    try:
        answer = node.run(("timedatectl", "show", "--property=NTPSynchronized", "--value"), TIMEDATECTL_LIMIT_S)
    except NoAnswerError as error:
        return WallClock(None, f"adjtimex is refused; timedatectl: {error}")
    word = answer.out.strip()
    if word not in ("yes", "no"):
        return WallClock(None, f"adjtimex is refused; timedatectl: {answer.err.strip() or word or 'no answer'}")
    return WallClock(word == "yes", "timedatectl")


def _kernel() -> WallClock | None:
    """Read the kernel's own state of synchronisation; None where there is no such call or it is refused."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = _Timex()
    if adjtimex is None or adjtimex(ctypes.byref(state)) < 0:
        return None
    synchronised = not state.status & STA_UNSYNC
    return WallClock(synchronised, "adjtimex", state.maxerror_us * 1e-6 if synchronised else None)
