"""The shapes of what a run stores and prints. Every document names its schema and version.

Units are in the names. ``None`` stands for what is not known; the reason is in ``reasons`` or ``notes``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_SCHEMA: Literal["inference-energy/manifest/1"] = "inference-energy/manifest/1"
PREDICTION_SCHEMA: Literal["inference-energy/prediction/1"] = "inference-energy/prediction/1"
RESULT_SCHEMA: Literal["inference-energy/result/1"] = "inference-energy/result/1"

Boundary = Literal["gpu", "node_modelled", "node"]
Verdict = Literal["valid", "suspect", "invalid"]
Status = Literal["running", "complete", "partial", "failed"]


class Document(BaseModel):
    """Base of everything stored: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CellDefinition(Document):
    """What a cell is, fixed before its load starts."""

    name: str
    role: Literal["calibration", "compared"]
    workload: str
    multiplier: float
    concurrency: int
    mean_input_tok: float
    mean_output_tok: float = Field(description="of the lengths as replayed, after capping to the context")
    median_output_tok: float
    capped_share: float = Field(description="share of queries whose output was capped to fit the context")
    mean_output_uncapped_tok: float
    warmup_s: float
    budget_s: float
    streamed_share: float
    drain: bool
    plateau_tps_tok_per_s: float | None = Field(description="best TPS of this workload's ladder, if one ran")
    binding: str = Field(description="what limits throughput at this concurrency, as far as it is known")


class WindowResult(Document):
    """The stretch of a cell that its figures come from; times on the run's monotonic clock."""

    start_mono_s: float
    end_mono_s: float
    duration_s: float
    mean_requests: float = Field(description="window length in mean request durations")
    tps_change_rel: float = Field(description="relative change of TPS across the window, by linear fit")
    tps_change_half_width_rel: float | None = Field(description="``None`` where too little was seen to tell")


class Latency(Document):
    """A latency seen by the streamed probes of the window, and the server's own mean over the same window."""

    p50_s: float | None
    probes: int
    server_mean_s: float | None


class TokenCheck(Document):
    """Whole-cell token counts: the server's counter against the usage of the requests."""

    counter_tok: float | None = Field(description="difference of the server's counter over the whole cell")
    usage_completed_tok: int
    unfinished_limit_tok: int = Field(description="tokens that aborted and failed requests can have had at most")
    consistent: bool | None


class RequestCount(Document):
    """Requests of a cell by outcome; first fills are not counted."""

    completed: int
    aborted: int
    errors: int


class QueryEnergy(Document):
    """Measured energy per query. The mean is J/token times the workload's mean output length."""

    mean: float = Field(description="Wh, at the boundary stated here")
    p50: float = Field(description="Wh, allocated: the median length at the mean J/token")
    p50_rule: str
    boundary: str = Field(description="the cell's boundary, times PUE where the node is covered")
    pue: float
    pue_source: str
    mean_without_pue: float
    standard_uncertainty_rel: float | None
    uncertainty_parts_rel: dict[str, float | None]


class PredictedQueryEnergy(Document):
    """Predicted energy per query in Wh, at the same boundary as the measured one."""

    mean: float
    p5: float = Field(description="of the distribution of the mean")
    p95: float
    per_query_p5: float = Field(description="spread over single queries: context only")
    per_query_p95: float


class SplitResult(Document):
    """ln(measured / predicted) by term; the terms add up to ``total``."""

    power: float
    length: float
    tps: float
    pue: float
    total: float


class CellResult(Document):
    """Everything reported of one cell."""

    name: str
    role: Literal["calibration", "compared"]
    workload: str
    multiplier: float
    concurrency: int
    mean_input_tok: float
    mean_output_tok: float
    median_output_tok: float
    capped_share: float
    power_source: str
    boundary: Boundary
    binding: str
    tps_tok_per_s: float | None = None
    watts: float | None = Field(None, description="mean over the window, at ``boundary``, without PUE")
    gpu_watts: float | None = Field(None, description="mean over the window, sum of the GPUs used")
    energy_method: str | None = Field(None, description="counter, integral, or both over the devices")
    gpu_utilization_ratio: float | None = None
    ttft_s: Latency | None = None
    itl_s: Latency | None = None
    joules_per_tok: float | None = Field(None, description="at ``boundary``, without PUE")
    joules_per_tok_ci95: tuple[float, float] | None = Field(None, description="random error only")
    wh_per_query: QueryEnergy | None = None
    predicted_wh_per_query: PredictedQueryEnergy | None = None
    ratio: float | None = Field(None, description="measured mean over predicted mean")
    split: SplitResult | None = None
    window: WindowResult | None = None
    queue_share: float | None = Field(None, description="share of scrapes in the window with requests waiting")
    kv_usage_ratio: float | None = None
    preemptions: float | None = None
    requests: RequestCount
    tokens: TokenCheck
    verdict: Verdict
    reasons: tuple[str, ...]


class EnergyRatio(Document):
    """Energy per query of the multiplied cell over that of the plain one."""

    multiplier: float
    measured: float | None = Field(description="null where either cell is invalid")
    verdict: Verdict = Field(description="the worse of the two cells'")
    measured_standard_uncertainty_rel: float | None
    eq1: float | None = Field(description="Eq. 1 for this model, these lengths and this multiplier")
    paper_reference: float = 13.0
    paper_reference_label: str = (
        "the paper's own: 5,000/300 = 16.7x tokens, pooled over three models above 200B; a reference, not a target"
    )


class RunSummary(Document):
    """Which run this is and how it ended."""

    id: str
    path: str
    status: Status
    started_wall_s: float
    model: str
    server_version: str | None
    power_source: str
    boundary: Boundary
    node_profile: str | None
    prediction: str = Field(description="where the predicted TPS comes from, or why there is no prediction")
    labels: tuple[str, ...] = Field(description="what a reader must know before using any figure")


class IdleResult(Document):
    """Loaded idle: model resident, no requests."""

    duration_s: float
    gpu_watts: float | None
    watts: float | None
    boundary: Boundary
    power_source: str
    reasons: tuple[str, ...]


class RunResult(Document):
    """The one document that ``stress`` and ``compare`` print."""

    schema_: Literal["inference-energy/result/1"] = Field(RESULT_SCHEMA, alias="schema")
    run: RunSummary
    idle: IdleResult | None
    cells: tuple[CellResult, ...]
    calibration_cells: tuple[CellResult, ...]
    energy_ratio: EnergyRatio | None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


class PowerDescription(Document):
    """The power source of a run and what is known of its errors."""

    name: str
    boundary: Boundary
    gain_rel_u: float = Field(description="relative standard uncertainty of the gain, common to all devices")
    power_lag_s: float
    notes: tuple[str, ...]


class PueAssumption(Document):
    """The PUE that both sides of the comparison share."""

    mean: float
    source: str


class ServerDescription(Document):
    """One server of a run. ``argv`` is empty where the server was already running."""

    url: str
    argv: tuple[str, ...]
    env: dict[str, str]
    device_uuids: tuple[str, ...]


class Manifest(Document):
    """Everything that identifies a run."""

    schema_: Literal["inference-energy/manifest/1"] = Field(MANIFEST_SCHEMA, alias="schema")
    id: str
    status: Status
    started_wall_s: float
    ended_wall_s: float | None = None
    failure: str | None = None
    config: dict[str, Any]
    workload: dict[str, Any]
    versions: dict[str, str]
    host: dict[str, Any]
    devices: tuple[dict[str, Any], ...]
    power: PowerDescription
    boundary: Boundary
    node_profile: dict[str, Any] | None
    node_share: float = Field(
        description="share of the node that the devices used are; it bears that share of the offset"
    )
    pue: PueAssumption
    servers: tuple[ServerDescription, ...]
    model: str | None = None
    server_version: str | None = None
    context_tok: int | None = None
    labels: tuple[str, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class StoredPrediction(Document):
    """The prediction as stored before the first compared cell. It never changes."""

    schema_: Literal["inference-energy/prediction/1"] = Field(PREDICTION_SCHEMA, alias="schema")
    created_wall_s: float
    tps_source: str
    label: str
    preset: str | None = None
    tps_model: dict[str, Any] | None = None
    cells: dict[str, dict[str, Any]] = Field({}, description="by cell name: the predicted mean and all its inputs")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
