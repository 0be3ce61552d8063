"""Tasks of several steps by name or file: ``agentic-coding``, ``hard-problem``, ``FILE.yaml``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from estimator.names import unknown_name_error
from estimator.problems import problems
from estimator.queries.tasks import TaskShape
from workloads.traces import WorkloadFileError


@dataclass(frozen=True)
class Task:
    """A named task: what it stands for, where it comes from, and its shape."""

    name: str
    description: str
    source: str
    shape: TaskShape

    def definition(self) -> dict[str, Any]:
        """Return everything that identifies this task."""
        return {"name": self.name, "description": self.description, "source": self.source, **asdict(self.shape)}


class _Profile(BaseModel):
    """The keys of a task's YAML file; all must be given."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    description: str
    source: str
    steps: int
    samples_per_step: int
    input_tok: int
    median_output_tok: float
    tool_result_tok: int
    kept_output_share: float
    input_limit_tok: int | None


def shipped_tasks() -> tuple[str, ...]:
    """Return the names of the shipped tasks.

    >>> shipped_tasks()
    ('agentic-coding', 'hard-problem')
    """
    folder = resources.files("workloads").joinpath("task_profiles")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


def load_task(text: str) -> Task:
    """Return the shipped task called ``text``, or the one in a file that ends in .yaml or .yml.

    Raises ValueError for an unknown name (with the nearest one) and ``WorkloadFileError`` for a bad file.

    >>> load_task("agentic-coding").shape.steps
    20
    """
    if text.endswith((".yaml", ".yml")):
        try:
            return _from_profile(text, yaml.safe_load(Path(text).read_text(encoding="utf-8")))
        except OSError as error:
            raise WorkloadFileError(f"cannot read the task {text}: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise WorkloadFileError(f"{text} is not YAML: {error}") from error
    if text not in shipped_tasks():
        raise unknown_name_error("task", text, [*shipped_tasks(), "FILE.yaml"])
    packaged = resources.files("workloads").joinpath("task_profiles").joinpath(f"{text}.yaml")
    return _from_profile(text, yaml.safe_load(packaged.read_text(encoding="utf-8")))


def _from_profile(origin: str, document: Any) -> Task:
    if not isinstance(document, dict):
        raise WorkloadFileError(f"{origin}: a task is a mapping of the keys {', '.join(_Profile.model_fields)}")
    try:
        profile = _Profile.model_validate(document)
    except ValidationError as error:
        raise WorkloadFileError(f"{origin}: {problems(error)}") from error
    try:
        shape = TaskShape(**profile.model_dump(exclude={"name", "description", "source"}))
    except ValueError as error:
        raise WorkloadFileError(f"{origin}: {error}") from error
    return Task(profile.name, profile.description, profile.source, shape)
