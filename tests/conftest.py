"""Settings for all tests."""

import signal

import pytest
from hypothesis import settings

# How long an example takes says nothing about behaviour: timed assertions belong in a benchmark.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Let the commands under test be interrupted, though nohup or a shell's background job has them ignore signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
