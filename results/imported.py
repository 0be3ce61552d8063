"""Measurements made by others, as cells of our schema. ``None`` stands for what the table does not publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from estimator.problems import problems
from results.schema import Document

CELLS_SCHEMA: Literal["inference-energy/cells/1"] = "inference-energy/cells/1"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class ImportedServer(Document):
    """What the table says of the server: with the model it makes the group that cells are counted by."""

    gpu_model: str | None
    gpus: Count
    tensor_parallel: Count | None
    precision: str | None = Field(description="number format of the weights")
    engine: str | None

    @property
    def label(self) -> str:
        """One line that names the server."""
        parts = (
            f"{self.gpus}x{self.gpu_model or 'unnamed GPU'}",
            f"tp{self.tensor_parallel}" if self.tensor_parallel else "",
            self.precision or "",
            self.engine or "",
        )
        return " ".join(part for part in parts if part)


class ImportedCell(Document):
    """One steady-state measurement of one server, model, task and concurrency cap."""

    id: str
    row: Count = Field(description="row of the source file; the header is row 1")
    server: ImportedServer
    model: str
    architecture: str | None = None
    total_params_billions: Positive | None = None
    active_params_billions: Positive | None = None
    task: str
    concurrency_cap: Count | None = None
    mean_concurrency: Positive | None = None
    source_says_saturated: bool = False
    tps_tok_per_s: Positive = Field(description="output tokens per second of the whole server")
    watts: Positive | None = Field(None, description="mean power at ``power_boundary``, without PUE")
    power_boundary: Literal["gpu"] | None = Field(None, description="gpu: the sum over the server's GPUs")
    mean_input_tok: Positive | None = None
    mean_output_tok: Positive
    joules_per_tok: Positive | None = Field(None, description="watts / tps_tok_per_s, at ``power_boundary``")
    wh_per_query: Positive | None = Field(None, description="Eq. 1 at ``power_boundary`` with PUE 1")
    median_itl_s: Positive | None = Field(None, description="inter-token latency")
    p99_itl_s: Positive | None = None
    notes: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The server and the model: cells of one group are not independent of each other."""
        return f"{self.model} on {self.server.label}"


class ImportedCells(Document):
    """All cells of one imported file and where they come from."""

    schema_: Literal["inference-energy/cells/1"] = Field(CELLS_SCHEMA, alias="schema")
    layout: str
    source_file: str
    source_sha256: str
    source: str
    licence: str
    notes: tuple[str, ...]
    cells: tuple[ImportedCell, ...] = Field(min_length=1)

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


def load_cells(path: Path) -> ImportedCells:
    """Read imported cells from a JSON file; raises ValueError naming the file if it holds anything else."""
    try:
        return ImportedCells.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} holds no imported cells ({CELLS_SCHEMA}): {problems(error)}") from error
