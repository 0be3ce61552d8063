"""The shapes of what a run stores and prints. Every document names its schema and version.

Units are in the names. ``None`` stands for what is not known; the reason is in ``reasons`` or ``notes``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from estimator.nodes import Allocation, NodeProfile

MANIFEST_SCHEMA: Literal["inference-energy/manifest/1"] = "inference-energy/manifest/1"
PREDICTION_SCHEMA: Literal["inference-energy/prediction/1"] = "inference-energy/prediction/1"
RESULT_SCHEMA: Literal["inference-energy/result/1"] = "inference-energy/result/1"

Boundary = Literal["gpu", "node_modelled", "node"]
SensorBoundary = Literal["gpu", "node", "cpu_dram"]
"""What a sensor covers; ``cpu_dram`` is part of a node and never added to one."""

Verdict = Literal["valid", "suspect", "invalid"]
LENGTHS_AS_SERVED = "lengths_as_served"
"""Reason code: the server chose the lengths of its answers, and Wh/query is of those."""
PLATEAU_SHOWN = (
    "whether the 95% interval of the ladder's last gain lies below 5%; false: its plateau is not statistically "
    "established; null where something else, or no ladder, chose the concurrency"
)
ChangeUnit = Literal["of_mean", "of_capacity"]
WindowEnd = Literal["precision_reached", "budget_spent"]
Status = Literal["running", "complete", "partial", "failed"]
Role = Literal["calibration", "compared", "ladder", "grid"]
"""What a cell is for: to feed a prediction, to be compared with it, or a cell of a sweep."""


class Document(BaseModel):
    """Base of everything stored: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NamedDocument(Document):
    """A document that names its schema, and stands in a file of its own."""

    model_config = ConfigDict(populate_by_name=True)


class TaskDefinition(Document):
    """The tasks whose requests a cell replays, as they fit the server's context."""

    samples_per_step: int
    mean_steps: float
    mean_requests: float = Field(description="of a task: its steps times the samples of each")
    mean_output_tok: float = Field(description="of a whole task, over all steps and samples")
    cut_share: float = Field(description="share of the tasks that a full context ends before their last step")


class CellDefinition(Document):
    """What a cell is, fixed before its load starts."""

    name: str
    role: Role
    workload: str
    multiplier: float
    concurrency: int
    mean_input_tok: float
    mean_output_tok: float = Field(description="of the lengths as replayed, after capping to the context")
    median_output_tok: float
    capped_share: float = Field(description="share of queries whose output was capped to fit the context")
    mean_output_uncapped_tok: float
    warmup_s: float = Field(description="left out after the fill in any case; the window rule may leave out more")
    budget_s: float = Field(description="the load lasts at most this long after the fill")
    precision_rel: float = Field(0.02, description="target half width of the 95% interval of J/token")
    min_window_s: float = Field(0.0, description="log after the warm-up that the window rule looks at first")
    streamed_share: float
    arrival: str = Field("closed", description="closed, poisson:RATE, trace or trace:RATE, in requests a second")
    clients: int = Field(1, description="load client processes")
    drain: bool
    plateau_tps_tok_per_s: float | None = Field(description="best TPS of this workload's ladder, if one ran")
    binding: str = Field(description="what limits throughput at this concurrency, as far as it is known")
    binds: str = Field("not_searched", description="the same as a code")
    doubling_gain_rel: float | None = Field(
        None, description="expected gain of twice the largest batch, where max_num_seqs binds"
    )
    plateau_shown: bool | None = Field(None, description=PLATEAU_SHOWN)
    prompts: str = Field("random token ids", description="what prompts are made of")
    tasks: TaskDefinition | None = None


class TaskResult(Document):
    """Measured energy of whole tasks: J/token times the mean output of a task."""

    mean_steps: float
    mean_requests: float
    mean_output_tok: float = Field(description="of a whole task, as asked for")
    served_output_tok: float | None = Field(None, description="the same as served, which Wh/task is of")
    cut_share: float
    completed: int = Field(description="tasks whose last step ended in the window")
    wh_per_task: float | None = Field(None, description="Wh, at the boundary of wh_per_query, with the same PUE")
    ci95: tuple[float, float] | None = Field(None, description="Wh, with the errors of wh_per_query")
    predicted_wh_per_task: float | None = Field(None, description="Eq. 1, which knows no prefix cache")
    own_output_share: float | None = Field(
        None, description="share of generated tokens whose ids the server returned, so that later prompts repeat them"
    )


class ChangeResult(Document):
    """The change of a quantity across the window, by linear fit, and the half width of its 95% interval."""

    change: float
    half_width_95: float
    unit: ChangeUnit = Field(description="share of the quantity's mean, or of the capacity of the KV cache")


class WindowResult(Document):
    """The stretch of a cell that its figures come from; times on the run's monotonic clock."""

    start_mono_s: float
    end_mono_s: float
    duration_s: float
    mean_requests: float = Field(description="window length in mean request durations")
    ended: WindowEnd = Field(description="what ended the window")
    changes: dict[str, ChangeResult] = Field(description="of throughput, power and KV usage, where known")
    autocorrelation_s: float = Field(description="longest integrated autocorrelation time of J/token and its parts")
    batches: int | None = Field(description="that the random error comes from; null without joules")


class Latency(Document):
    """A latency seen by the streamed requests of the window, and the server's own mean over the same window.

    A percentile is ``None`` where fewer than three requests lie beyond it (p99 needs 300), or where it depends on
    requests that still waited for their first token when the load ended. Times between tokens are those of answers that
    ended in the window.
    """

    p50_s: float | None
    p90_s: float | None = None
    p99_s: float | None = None
    mean_s: float | None = None
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
    """Measured energy per query. The mean is J/token times the workload's mean output length as served."""

    mean: float = Field(description="Wh, at the boundary stated here")
    output_tok: float | None = Field(
        None, description="mean output that the mean is of: the cell's, times tokens served over tokens asked for"
    )
    p50: float = Field(description="Wh, allocated: the median length at the mean J/token")
    p50_rule: str
    boundary: str = Field(description="the cell's boundary, times PUE where the node is covered")
    pue: float
    pue_source: str
    mean_without_pue: float
    ci95: tuple[float, float] | None = Field(
        None, description="Wh, random and systematic errors together by Monte Carlo (JCGM 101), PUE taken as exact"
    )
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


class DeviceResult(Document):
    """What is known of one device of a cell; null is unknown.

    Energy, throttling, temperature, clock, memory and utilisation are over the window; power limit, ECC, XID and
    processes over the whole load around it.
    """

    uuid: str
    source: str
    boundary: Literal["gpu"] = "gpu"
    mean_w: float | None
    joules_counter: float | None
    joules_integral: float | None
    integral_difference_rel: float | None = Field(description="integral over counter, less 1")
    throttled_share: float | None = Field(description="of the readings, by any cause that is throttling")
    throttled_by_cause: dict[str, float] | None = Field(
        description="shares by clock event reason; they overlap, and idle or chosen clocks are no throttling"
    )
    temperature_max_c: float | None
    sm_clock_mean_mhz: float | None
    utilization_mean_ratio: float | None
    memory_max_b: int | None
    power_limit_w: float | None = Field(description="enforced at the end of the load")
    ecc_corrected: int | None = Field(description="new errors during the load")
    ecc_uncorrected: int | None
    xids: tuple[int, ...] | None = Field(description="errors that the driver reported; null where nobody watched")
    foreign_processes: bool | None = Field(description="whether processes of others computed on it")
    foreign_processes_why: str
    reasons: tuple[str, ...]


class CellResult(Document):
    """Everything reported of one cell."""

    name: str
    role: Role
    workload: str
    multiplier: float
    concurrency: int
    arrival: str = Field("closed", description="closed, poisson:RATE, trace or trace:RATE, in requests a second")
    mean_input_tok: float
    mean_output_tok: float
    median_output_tok: float
    capped_share: float
    power_source: str
    boundary: Boundary
    devices: tuple[DeviceResult, ...] = ()
    meters: tuple[MeterReading, ...] = Field((), description="of every meter beside the run's own power source")
    binding: str
    binds: str = "not_searched"
    doubling_gain_rel: float | None = None
    plateau_shown: bool | None = Field(None, description=PLATEAU_SHOWN)
    tps_tok_per_s: float | None = None
    tps_ci95: tuple[float, float] | None = Field(
        None, description="tok/s: random errors within the window, and tokens at its edges"
    )
    tps_standard_uncertainty_rel: float | None = Field(None, description="of TPS, from the same two")
    watts: float | None = Field(None, description="mean over the window, at ``boundary``, without PUE")
    gpu_watts: float | None = Field(None, description="mean over the window, sum of the GPUs used")
    energy_method: str | None = Field(None, description="counter, integral, or both over the devices")
    gpu_utilization_ratio: float | None = None
    ttft_s: Latency | None = None
    itl_s: Latency | None = None
    client: dict[str, float | None] | None = Field(None, description="how the load clients kept up in the window")
    goodput: dict[str, Any] | None = Field(None, description="share of streamed requests within the objective")
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
    prompts: str = "random token ids"
    prefix_cache_hit_ratio: float | None = Field(
        None, description="share of the prompt tokens looked up in the window that the prefix cache held"
    )
    task: TaskResult | None = None
    requests: RequestCount
    tokens: TokenCheck
    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def served_output_tok(self) -> float:
        """Return the mean output that Wh/query is of: as asked for, or as served where the server chose it."""
        if self.wh_per_query is None or self.wh_per_query.output_tok is None:
            return self.mean_output_tok
        return self.wh_per_query.output_tok


class MeterReading(Document):
    """What a meter says over a window, beside the node model where the meter covers the node."""

    source: str
    boundary: SensorBoundary
    watts: float | None = Field(description="mean of all that the meter covers; null with a reason")
    joules: float | None
    charged_watts: float | None = Field(description="the run's part of a node by the run's allocation")
    modelled_watts: float | None = Field(description="the node model's figure for the same, by the same allocation")
    difference_rel: float | None = Field(description="charged over modelled, less 1")
    gain_rel_u: float | None = Field(description="relative standard uncertainty of the gain, null where unknown")
    readings: int
    longest_repeat_s: float = Field(description="longest time without a change of the reading")
    reasons: tuple[str, ...]


class EnergyRatio(Document):
    """Energy per query of the multiplied cell over that of the plain one, over all pairs of the run."""

    multiplier: float
    measured: float | None = Field(description="null where any cell is invalid; the geometric mean over pairs")
    verdict: Verdict = Field(description="the worst of the cells'")
    measured_ci95: tuple[float, float] | None = None
    pairs: int = 1
    interval_basis: Literal["between_runs", "between_pairs", "within_windows", "unknown"] = Field(
        "unknown", description="what the interval covers; only between_runs has what a restart of the server changes"
    )
    exponent: float | None = Field(None, description="d ln E / d ln L between the two mean output lengths")
    exponent_ci95: tuple[float, float] | None = None
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
    """Power without requests: with the model resident (loaded idle), or before any server was launched (bare idle)."""

    duration_s: float
    gpu_watts: float | None
    watts: float | None
    standard_uncertainty_rel: float | None = Field(
        None,
        description="of watts, the mean over this very phase, from systematic errors and its edges in time alone: "
        "there is no random part, so what another phase would differ by is not in it; null where a part is unknown",
    )
    standard_uncertainty_covers: str = (
        "systematic errors and edges in time; not what another idle phase would differ by"
    )
    uncertainty_parts_rel: dict[str, float | None] = {}
    boundary: Boundary
    power_source: str
    devices: tuple[DeviceResult, ...] = ()
    meters: tuple[MeterReading, ...] = Field((), description="of every meter beside the run's own power source")
    reasons: tuple[str, ...]


class RunResult(NamedDocument):
    """The one document that ``stress`` and ``compare`` print."""

    schema_: Literal["inference-energy/result/1"] = Field(RESULT_SCHEMA, alias="schema")
    run: RunSummary
    idle: IdleResult | None = Field(description="loaded idle")
    bare_idle: IdleResult | None = None
    bare_idle_unknown: str | None = Field(None, description="why there is no bare idle")
    cells: tuple[CellResult, ...]
    calibration_cells: tuple[CellResult, ...]
    energy_ratio: EnergyRatio | None

    def to_json(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


class PowerDescription(Document):
    """The power source of a run and what is known of its errors."""

    name: str
    boundary: Boundary
    gain_rel_u: float | None = Field(
        description="relative standard uncertainty of the gain, common to all devices; null where unknown"
    )
    power_lag_s: float
    counter_lag_s: float = Field(0.0, description="mean age of a counter's reading where its steps were not watched")
    notes: tuple[str, ...]


class MeterDescription(Document):
    """A power source read beside the run's own, at its own pace, and what is known of its errors."""

    name: str
    boundary: SensorBoundary
    gain_rel_u: float | None = Field(description="relative standard uncertainty of the gain, null where unknown")
    power_lag_s: float
    counter_lag_s: float = Field(0.0, description="mean age of a counter's reading where its steps were not watched")
    period_s: float = Field(description="seconds between readings; how often the meter refreshes stands in the notes")
    device_uuids: tuple[str, ...]
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
    niceness: int = Field(0, description="above 0 the server leaves the cores to other processes first")
    device_uuids: tuple[str, ...]
    prefix_caching: bool | None = Field(None, description="as the server says on /metrics; null where it does not")


class Manifest(NamedDocument):
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
    allocation: Allocation = Field("share", description="who bears what the node's unused GPUs draw")
    meters: tuple[MeterDescription, ...] = ()
    servers: tuple[ServerDescription, ...]
    model: str | None = None
    server_version: str | None = None
    context_tok: int | None = None
    labels: tuple[str, ...] = ()

    @field_validator("node_profile")
    @classmethod
    def _is_profile(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            NodeProfile.model_validate(value)
        return value


class StoredPrediction(NamedDocument):
    """The prediction as stored before the first compared cell. It never changes."""

    schema_: Literal["inference-energy/prediction/1"] = Field(PREDICTION_SCHEMA, alias="schema")
    created_wall_s: float
    tps_source: str
    label: str
    preset: str | None = None
    tps_model: dict[str, Any] | None = None
    cells: dict[str, dict[str, Any]] = Field({}, description="by cell name: the predicted mean and all its inputs")
