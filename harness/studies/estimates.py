"""Estimate Wh per query by the paper's Monte Carlo, for named models, their pool, or a fitted TPS model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from estimator.distributions import LogNormal
from estimator.lengths import LengthDistribution
from estimator.nodes import NodeProfile, load_profile
from estimator.power.node_power import IndependentPower, MeasuredPower, NodePower
from estimator.power.power_fit import PowerFit
from estimator.presets import Preset, Regime, get_preset
from estimator.queries.energies import Energies, QueryEnergies
from estimator.queries.histogram import LogHistogram
from estimator.queries.interventions import combined, parse_gain
from estimator.queries.montecarlo import sample
from estimator.queries.served import BASELINE_MODELS, PowerAssumption, ServedModel, model_on_node, s1_model, sample_pool
from estimator.queries.tasks import TaskEnergies
from estimator.throughput.s1 import load_s1
from estimator.throughput.tps import TpsModel
from harness.errors import ConfigError, WorkloadError
from harness.studies.checks import check_multiplier, check_samples
from harness.studies.tasks import find_task, task_energies, task_entry, task_notes
from workloads.spec import load_workload
from workloads.tasks import Task

ESTIMATE_SCHEMA = "inference-energy/estimate/1"
BASELINE = "baseline"
QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p95": 0.95}
DEFAULT_SAMPLES = 1_000_000

BOUNDARIES = {"gpu": "gpu", "node": "node", "node-pue": "node x PUE"}
_NO_PUE = LogNormal.constant(1.0)


@dataclass(frozen=True)
class EstimateOptions:
    """What to estimate, as asked for on the command line."""

    model: str | None = None
    tps_model: Path | None = None
    regime: str | None = None
    workload: str | None = None
    task: str | None = None
    multiplier: float = 1.0
    preset: str = "corrected"
    boundary: str = "node-pue"
    power_model: str = "independent"
    gains: tuple[str, ...] = ()
    node_profile: str = "hgx-h100"
    samples: float = DEFAULT_SAMPLES
    seed: int = 0
    workers: int | None = None


def estimate_document(options: EstimateOptions) -> dict[str, Any]:
    """Return the estimates asked for, as the document that ``--json`` prints; all models if none is named."""
    _check(options)
    try:
        study = _Study.resolve(options)
        subjects = study.subjects(options)
        estimates = [study.estimate(name, models) for name, models in subjects.items()]
    except (OSError, ValueError) as error:
        raise WorkloadError(str(error)) from error
    return {
        "schema": ESTIMATE_SCHEMA,
        "samples_per_model": check_samples(options.samples),
        "seed": options.seed,
        "preset_parameters": {name: asdict(each) for name, each in study.preset.parameters().items()},
        "estimates": estimates,
    }


def _check(options: EstimateOptions) -> None:
    if options.regime is not None and options.regime not in get_args(Regime):
        raise ConfigError(f"unknown regime {options.regime!r}", fix=f"choose one of {', '.join(get_args(Regime))}")
    if sum(each is not None for each in (options.regime, options.workload, options.task)) > 1:
        raise ConfigError("regime, workload and task exclude each other", fix="give one of them")
    if options.task is not None and options.multiplier != 1:
        raise ConfigError("a task has no multiplier", fix="change its median_output_tok in a profile of your own")
    if options.model is not None and options.tps_model is not None:
        raise ConfigError("model and tps-model exclude each other", fix="give one of them")
    if options.boundary not in BOUNDARIES:
        raise ConfigError(f"unknown boundary {options.boundary!r}", fix=f"choose one of {', '.join(BOUNDARIES)}")
    if options.boundary == "gpu" and options.power_model != "independent":
        raise ConfigError(
            f"the power model {options.power_model!r} is of the whole node, the boundary asked for is its GPUs",
            fix="use --boundary node or node-pue",
        )
    check_samples(options.samples)
    check_multiplier(options.multiplier)


@dataclass(frozen=True)
class _Study:
    """The options resolved: everything that all estimates of one document share."""

    options: EstimateOptions
    preset: Preset
    regime: Regime | None
    lengths: LengthDistribution | Task
    power: PowerAssumption
    gain: LogNormal
    profile: NodeProfile
    workers: int

    @classmethod
    def resolve(cls, options: EstimateOptions) -> _Study:
        preset = get_preset(options.preset)
        regime: Regime | None = None
        lengths: LengthDistribution | Task
        if options.task is not None:
            lengths = find_task(options.task)
        elif options.workload is not None:
            lengths = load_workload(options.workload).lengths(options.multiplier)
        else:
            regime = cast(Regime, options.regime or "traditional")
            lengths = preset.lengths(regime, options.multiplier)
        return cls(
            options=options,
            preset=preset,
            regime=regime,
            lengths=lengths,
            power=_power_assumption(options.power_model),
            gain=_gain(options.gains),
            profile=load_profile(options.node_profile),
            workers=options.workers or available_cores(),
        )

    def subjects(self, options: EstimateOptions) -> dict[str, tuple[ServedModel, ...]]:
        """Return what to estimate by name; a pool has several models."""
        if options.tps_model is not None:
            name = f"file {options.tps_model}"
            return {name: (model_on_node(name, _tps_model(options.tps_model), self.profile),)}
        every = [*dict.fromkeys(row.model for row in load_s1()), BASELINE]
        names = every if options.model is None else [options.model]
        return {
            name: tuple(s1_model(each, self.preset) for each in (BASELINE_MODELS if name == BASELINE else (name,)))
            for name in names
        }

    def estimate(self, name: str, models: Sequence[ServedModel]) -> dict[str, Any]:
        """Return the entry of one model, or of several pooled in equal shares."""
        energies = [self._energies(model) for model in models]
        trim = len(models) > 1 and bool(self.preset.trimmed.value)
        samples = self._draw(energies, trimmed=trim)
        entry = {
            "model": name,
            "regime": self.regime,
            "workload": self.options.workload,
            "task": task_entry(self.lengths) if isinstance(self.lengths, Task) else None,
            "multiplier": self.options.multiplier,
            "preset": self.preset.name,
            "boundary": BOUNDARIES[self.options.boundary],
            "power_model": self.options.power_model,
            "interventions": list(self.options.gains),
            "alpha": {"p5": self.gain.p5, "p50": self.gain.median, "p95": self.gain.p95},
            "lengths": _lengths_entry(self.lengths),
            "wh_per_query": quantiles_wh(samples),
            "monte_carlo_se_wh": standard_errors_wh(samples),
            "trimmed": trim,
            "extrapolated_share": max(self._extrapolated_share(model) for model in models),
            "notes": self._notes(models, trimmed=trim),
        }
        if trim:
            entry["untrimmed_wh_per_query"] = quantiles_wh(self._draw(energies, trimmed=False))
        return entry

    def _draw(self, energies: Sequence[Energies], *, trimmed: bool) -> LogHistogram:
        if len(energies) == 1:
            return sample(energies[0], int(self.options.samples), seed=self.options.seed, workers=self.workers)
        return sample_pool(
            energies, int(self.options.samples), seed=self.options.seed, workers=self.workers, trimmed=trimmed
        )

    def _energies(self, model: ServedModel) -> QueryEnergies | TaskEnergies:
        pue = self.preset.pue() if self.options.boundary == "node-pue" else _NO_PUE
        node_power = self._node_power(model)
        if isinstance(self.lengths, Task):
            return task_energies(self.lengths, model, node_power=node_power, pue=pue, gain=self.gain)
        return model.energies(self.lengths, node_power, pue, self.gain)

    def _extrapolated_share(self, model: ServedModel) -> float:
        energies = self._energies(model)
        if isinstance(energies, TaskEnergies):
            return energies.extrapolated_share
        return model.tps.extrapolated_share(cast(LengthDistribution, self.lengths))

    def _node_power(self, model: ServedModel) -> NodePower:
        if isinstance(self.power, MeasuredPower) and self.power.fit.gpus != model.tps.gpus:
            raise ValueError(
                f"the power model is of {self.power.fit.gpus} GPU(s), "
                f"the throughput of {model.name} of {model.tps.gpus}"
            )
        if self.options.boundary != "gpu":
            return model.node_power(self.preset, self.power)
        if self.profile.gpu_limit_w is None:
            raise ValueError(f"node profile {self.profile.name} states no gpu_limit_w, which the gpu boundary needs")
        limit_kw = self.profile.gpu_limit_w * model.tps.gpus / 1000
        return IndependentPower(self.preset.power_share().scaled(limit_kw))

    def _notes(self, models: Sequence[ServedModel], *, trimmed: bool) -> list[str]:
        notes = [f"{model.name}: {note}" for model in models for note in model.tps.notes]
        if isinstance(self.lengths, Task):
            energies = {model.name: self._energies(model) for model in models}
            notes += task_notes(self.lengths, cast(dict[str, TaskEnergies], energies))
        notes.append("the quantiles are of single queries; they leave out the error of the throughput model")
        if isinstance(self.power, MeasuredPower):
            fit, (low, high) = self.power.fit, self.power.fit.tps_range_tok_per_s
            notes.append(
                f"power measured on {fit.model} ({fit.boundary}) at {low:,.0f} to {high:,.0f} tok/s: {fit.source}"
            )
            notes += fit.notes
        if trimmed:
            notes.append("quantiles and mean are of samples trimmed as the published ones; see untrimmed_wh_per_query")
        if self.options.boundary == "gpu":
            notes.append("gpu boundary: the paper's share of P_max, applied to the sum of the GPUs' power limits")
        return notes


def _lengths_entry(lengths: LengthDistribution | Task) -> dict[str, float] | None:
    if isinstance(lengths, Task):
        return None
    return {
        "mean_input_tok": lengths.mean_input_tok,
        "mean_output_tok": lengths.mean_output_tok,
        "median_output_tok": lengths.median_output_tok,
    }


def quantiles_wh(samples: LogHistogram) -> dict[str, float]:
    """Return the quantiles P5 to P95 and the mean in Wh."""
    return {name: samples.quantile_wh(q) for name, q in QUANTILES.items()} | {"mean": samples.mean_wh}


def standard_errors_wh(samples: LogHistogram) -> dict[str, float | None]:
    """Return the Monte Carlo standard error in Wh of each quantile and of the mean.

    None where the samples are too few to tell: one for the mean, none beyond the quantile.
    """
    beyond = {name: samples.n_drawn * min(q, 1 - q) for name, q in QUANTILES.items()}
    errors = {name: samples.quantile_se_wh(q) if beyond[name] >= 1 else None for name, q in QUANTILES.items()}
    return errors | {"mean": samples.mean_se_wh if samples.n_drawn > 1 else None}


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _gain(texts: Sequence[str]) -> LogNormal:
    try:
        return combined(map(parse_gain, texts))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _tps_model(path: Path) -> TpsModel:
    try:
        return TpsModel.load(path)
    except OSError as error:
        raise ValueError(f"cannot read the TPS model {path}: {error.strerror or error}") from error


def _power_assumption(text: str) -> PowerAssumption:
    if text in ("independent", "proportional"):
        return cast(PowerAssumption, text)
    if text.endswith(".json"):
        try:
            fit = PowerFit.load(Path(text))
        except OSError as error:
            raise ValueError(f"cannot read the power model {text}: {error.strerror or error}") from error
        if fit.boundary == "gpu":
            raise ValueError(f"{text} holds the power of GPUs alone, Eq. 1 takes that of a node")
        return MeasuredPower(fit)
    raise ConfigError(
        f"unknown power model {text!r}",
        fix="choose independent, proportional, or the .json file of harness refit --power-out",
    )
