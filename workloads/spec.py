"""Workloads by name: ``traditional``, ``fixed:500x2000``, ``azure:FILE``, ``task:NAME_OR_FILE``, ``FILE.yaml`` ..."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from estimator.lengths import LengthDistribution
from workloads.replayed_tasks import TaskReplay
from workloads.sample import read_recorded
from workloads.shapes import ExponentialShape, FixedShape, RecordedShape, Shape
from workloads.tasks import load_task
from workloads.traces import TRACE_NAMES, Trace, WorkloadFileError, find_trace
from workloads.traces.formats import DESCRIPTIONS

_FIXED = re.compile(r"fixed:(\d+)x(\d+)")
TASK_PREFIX = "task:"
_PROFILE_KEYS = {"name", "description", "source", "input_tok", "median_output_tok"}


class WorkloadNameError(ValueError):
    """The text names no workload."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A named workload: what it stands for, where it comes from, and its lengths."""

    name: str
    description: str
    source: str
    shape: Shape

    def lengths(self, multiplier: float = 1.0) -> LengthDistribution:
        """Return the joint length distribution with output lengths multiplied."""
        return self.shape.lengths(multiplier)

    def definition(self) -> dict[str, Any]:
        """Return what identifies this workload in a run's manifest."""
        return {
            "name": self.name,
            "description": self.description,
            "source": self.source,
            **self.shape.definition(),
        }


def shipped_workloads() -> tuple[str, ...]:
    """Return the names of the shipped profiles."""
    folder = resources.files("workloads").joinpath("profiles")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


def load_workload(text: str) -> Workload:
    """Return the workload that ``text`` names.

    Raises ``WorkloadNameError`` for an unknown name (with the nearest one) and ``WorkloadFileError`` for a bad trace.
    """
    if fixed := _FIXED.fullmatch(text):
        input_tok, output_tok = int(fixed[1]), int(fixed[2])
        if min(input_tok, output_tok) < 1:
            raise WorkloadNameError(f"{text}: both lengths must be at least 1 token")
        return Workload(text, "Every query has the same lengths", "given", FixedShape(input_tok, output_tok))
    if (trace := find_trace(text)) is not None:
        return recorded_workload(trace)
    if text.startswith(TASK_PREFIX):
        return _from_task(text.removeprefix(TASK_PREFIX))
    if text.endswith((".yaml", ".yml")):
        return _from_file(Path(text))
    if text in shipped_workloads():
        packaged = resources.files("workloads").joinpath("profiles").joinpath(f"{text}.yaml")
        return _from_profile(text, yaml.safe_load(packaged.read_text(encoding="utf-8")))
    known = [*shipped_workloads(), "fixed:500x2000", *TRACE_NAMES, "task:NAME_OR_FILE"]
    near = difflib.get_close_matches(text, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise WorkloadNameError(f"unknown workload {text!r}{hint} (known: {', '.join(known)}, or a profile FILE.yaml)")


def recorded_workload(trace: Trace) -> Workload:
    """Return the lengths of a trace as a workload; raises ``WorkloadFileError`` where it cannot be read."""
    lengths, origin = read_recorded(trace)
    shape = RecordedShape(lengths.input_tok, lengths.output_tok, origin)
    return Workload(trace.name, DESCRIPTIONS[trace.kind], str(trace.path), shape)


def _from_task(name: str) -> Workload:
    try:
        task = load_task(name)
    except WorkloadFileError:
        raise
    except ValueError as error:
        raise WorkloadNameError(str(error)) from error
    return Workload(f"{TASK_PREFIX}{task.name}", task.description, task.source, TaskReplay(task.shape))


def _from_file(path: Path) -> Workload:
    try:
        return _from_profile(str(path), yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WorkloadFileError(f"cannot read the workload profile {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkloadFileError(f"{path} is not YAML: {error}") from error


def _from_profile(origin: str, profile: Any) -> Workload:
    if not isinstance(profile, dict) or set(profile) != _PROFILE_KEYS:
        raise WorkloadFileError(f"{origin}: a workload profile has exactly the keys {', '.join(sorted(_PROFILE_KEYS))}")
    input_tok, median_tok = profile["input_tok"], profile["median_output_tok"]
    input_is_good = isinstance(input_tok, int) and input_tok >= 1
    median_is_good = isinstance(median_tok, (int, float)) and 0 < median_tok < math.inf
    if not (input_is_good and median_is_good):
        raise WorkloadFileError(f"{origin}: input_tok must be a whole number >= 1 and median_output_tok a number > 0")
    shape = ExponentialShape(input_tok, float(median_tok))
    return Workload(str(profile["name"]), str(profile["description"]), str(profile["source"]), shape)
