"""Settings for all tests."""

from hypothesis import settings

# How long an example takes says nothing about behaviour: timed assertions belong in a benchmark.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
