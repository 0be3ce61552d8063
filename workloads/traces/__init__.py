"""Recorded request traces: the token lengths of real traffic, and when it came, read a piece at a time."""

from workloads.traces.formats import TRACE_NAMES, Trace, find_trace, recognised
from workloads.traces.stream import Chunk, WorkloadFileError

__all__ = ["TRACE_NAMES", "Chunk", "Trace", "WorkloadFileError", "find_trace", "recognised"]
