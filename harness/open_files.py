"""Have room for the connections of a load: each request in flight takes one open file in its client process."""

from __future__ import annotations

import errno
import resource

from harness.errors import NodeError

WANTED_FILES = 65_536
FILES_BESIDES_REQUESTS = 200
"""Of a client process: its libraries, the run folder, sensors, scrapes and metrics."""


def attainable(soft: int, hard: int) -> int:
    """Return the soft limit that a process may give itself: ``WANTED_FILES`` as far as the hard limit allows.

    >>> attainable(1_024, 1_048_576), attainable(1_024, 4_096), attainable(100_000, 1_048_576)
    (65536, 4096, 100000)
    """
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES))


def make_room(in_flight: int = 0) -> None:
    """Raise this process's soft limit of open files, which its children inherit.

    Raises ``NodeError`` where a client process could not hold ``in_flight`` requests under it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = attainable(soft, hard)
    if limit != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit != resource.RLIM_INFINITY and limit < in_flight + FILES_BESIDES_REQUESTS:
        raise NodeError(
            f"{in_flight:,} requests in flight a client process need as many open files, and {limit:,} are allowed",
            why=f"{FILES_BESIDES_REQUESTS} more are needed beside them",
            fix=_MORE,
        )


def too_many(error: OSError) -> NodeError | None:
    """Return the error for a user where a process has run out of open files, or ``None`` for any other reason."""
    if error.errno != errno.EMFILE:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return NodeError(
        f"a process of the harness has all the {soft:,} files open that it may (ulimit -n)",
        why="each request in flight takes one in its client process",
        fix=_MORE,
    )


_MORE = (
    "spread the load over several processes with --clients N, or raise the hard limit: ulimit -H -n as root, "
    "/etc/security/limits.conf, in a container docker run --ulimit nofile=65536"
)
