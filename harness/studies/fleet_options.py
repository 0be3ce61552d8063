"""What ``harness fleet`` can be asked for, and the fleet that this gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from estimator.distributions import LogNormal
from estimator.fleet.beta import LOAD_SHAPE, NETWORK, REDUNDANCY, Beta, load_shape_factor
from estimator.fleet.total import Fleet, QueryClass
from estimator.presets import Preset, Regime, get_preset
from estimator.queries.energies import QueryEnergies
from estimator.queries.interventions import combined, parse_gain
from estimator.queries.served import BASELINE_MODELS, ServedModel, s1_model
from estimator.queries.tasks import TaskEnergies
from estimator.ranges import parse_log_normal, parse_range
from harness.errors import ConfigError, WorkloadError
from harness.studies.checks import check_samples
from harness.studies.estimates import BASELINE
from harness.studies.tasks import find_task, task_energies
from workloads.tasks import Task

TRADITIONAL = "traditional"
LONG = "long"
MOST_QUERIES = 1e18
"""A hundred million a day for every human being: beyond it is a slip of the pen."""
LARGEST_FACTOR = 1e6
"""Of what may be given per kWh and as a factor on energy, for the same reason."""
_GPUS_OF_BETA = 8
"""S.V takes the node of 8 GPUs; that of 10 is scaled from it, idle power too, so its load shape is the same."""


@dataclass(frozen=True)
class FleetOptions:
    """What fleet to estimate, as asked for on the command line; None takes what the paper states."""

    queries: float = 1e9
    long_share: float = 0.0
    model: str = BASELINE
    task: str | None = None
    preset: str = "corrected"
    load_shape: str | None = None
    idle_kw: float | None = None
    peak_kw: float | None = None
    redundancy: str | None = None
    network: str | None = None
    gains: tuple[str, ...] = ()
    water_l_per_kwh: str | None = None
    carbon_g_per_kwh: str | None = None
    samples: float = 1e7
    seed: int = 0
    workers: int | None = None


@dataclass(frozen=True)
class LoadShape:
    """The parts of the load shape's factor in beta."""

    low: float
    high: float
    idle_kw: float
    peak_kw: float

    @property
    def factor(self) -> float:
        """Energy per query under this load over that at full load."""
        return load_shape_factor(low=self.low, high=self.high, idle_kw=self.idle_kw, peak_kw=self.peak_kw)


@dataclass(frozen=True)
class FleetInputs:
    """The options of a fleet resolved: checked, and everything found that they name."""

    queries_per_day: float
    long_share: float
    preset: Preset
    models: tuple[ServedModel, ...]
    task: Task | None
    gain: LogNormal
    load_shape: LoadShape
    beta: Beta
    water_l_per_kwh: LogNormal | None
    carbon_g_per_kwh: LogNormal | None

    @classmethod
    def resolve(cls, options: FleetOptions) -> FleetInputs:
        """Check the options and find what they name; raises ConfigError or WorkloadError."""
        _check(options)
        try:
            preset = get_preset(options.preset)
            names = BASELINE_MODELS if options.model == BASELINE else (options.model,)
            models = tuple(s1_model(name, preset) for name in names)
        except ValueError as error:
            raise WorkloadError(str(error)) from error
        try:
            gain = combined(map(parse_gain, options.gains))
            shape = _load_shape(options, preset)
            beta = Beta(
                shape.factor,
                _log_normal("redundancy", options.redundancy) or REDUNDANCY,
                _log_normal("network", options.network) or NETWORK,
            )
            water = _log_normal("water-l-per-kwh", options.water_l_per_kwh)
            carbon = _log_normal("carbon-g-per-kwh", options.carbon_g_per_kwh)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        task = None if options.task is None else find_task(options.task)
        return cls(options.queries, options.long_share, preset, models, task, gain, shape, beta, water, carbon)

    def with_(self, *, long_share: float, gain: LogNormal) -> FleetInputs:
        """Return the same with another share of long queries and another gain."""
        return replace(self, long_share=long_share, gain=gain)

    def fleet(self) -> Fleet:
        """Return the fleet: its models in equal shares, each serving traditional and long queries."""
        shares = {TRADITIONAL: 1 - self.long_share, LONG: self.long_share}
        classes = tuple(
            QueryClass(kind, model.name, share / len(self.models), self._energies(kind, model))
            for kind, share in shares.items()
            if share > 0
            for model in self.models
        )
        return Fleet(self.queries_per_day, classes, self.beta.total)

    def what_long_is(self) -> str:
        """Return what a long query of this fleet is."""
        return "test-time" if self.task is None else f"task {self.task.name}"

    def extrapolated_share(self, query_class: QueryClass) -> float:
        """Return the share of requests of one class with a length outside its model's throughput data."""
        if isinstance(query_class.energies, TaskEnergies):
            return query_class.energies.extrapolated_share
        model = next(model for model in self.models if model.name == query_class.model)
        return model.tps.extrapolated_share(self.preset.lengths(_regime(query_class.kind)))

    def _energies(self, kind: str, model: ServedModel) -> QueryEnergies | TaskEnergies:
        power, pue = model.node_power(self.preset), self.preset.pue()
        if kind == LONG and self.task is not None:
            return task_energies(self.task, model, node_power=power, pue=pue, gain=self.gain)
        return model.energies(self.preset.lengths(_regime(kind)), power, pue, self.gain)


def _regime(kind: str) -> Regime:
    return "test-time" if kind == LONG else "traditional"


def _check(options: FleetOptions) -> None:
    if not 0 < options.queries <= MOST_QUERIES:
        raise ConfigError(f"queries = {options.queries:g}: a fleet serves between 0 and {MOST_QUERIES:g} queries a day")
    if not 0 <= options.long_share <= 1:
        raise ConfigError(f"long-share = {options.long_share:g}: it must be between 0 and 1", fix="0.1 is 10%")
    check_samples(options.samples)
    if options.task is not None and options.long_share == 0:
        raise ConfigError("a task stands for the long queries, and there are none", fix="give --long-share above 0")


def _load_shape(options: FleetOptions, preset: Preset) -> LoadShape:
    try:
        low, high = LOAD_SHAPE if options.load_shape is None else parse_range(options.load_shape)
    except ValueError as error:
        raise ValueError(f"load-shape: {error}") from error
    return LoadShape(
        low,
        high,
        idle_kw=preset.p_idle_kw.value if options.idle_kw is None else options.idle_kw,
        peak_kw=preset.p_max_for(_GPUS_OF_BETA) if options.peak_kw is None else options.peak_kw,
    )


def _log_normal(option: str, text: str | None) -> LogNormal | None:
    if text is None:
        return None
    try:
        values = parse_log_normal(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    if values.p95 > LARGEST_FACTOR:
        raise ValueError(f"{option}: {text} is more than {LARGEST_FACTOR:g}, which is no such factor")
    return values
